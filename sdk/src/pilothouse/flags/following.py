"""The flag set of an environment as a resource: what an answer is turned into, and where."""

import asyncio

from pilothouse.errors import BadAnswer
from pilothouse.flags.evaluating import Flags
from pilothouse.flags.held import HeldFlags, taken
from pilothouse.flags.restoring import restored, saved
from pilothouse.following import Resource
from pilothouse.transport import Answer

PATH = "/api/v1/flag-set"
_APART_FROM = 32_768  # bytes: what takes longer than a few milliseconds


def flag_set(environment: str, flags: Flags) -> Resource:
    """Return what keeps `flags` current."""

    def taken_over(answer: Answer) -> HeldFlags:
        body = answer.object()
        if body.get("environment", environment) != environment:
            raise BadAnswer("the flag set of another environment")
        return taken(flags.held, body, "service", answer.etag)

    async def accept(answer: Answer) -> None:
        if len(answer.body) < _APART_FROM and flags.held.is_read:
            flags.swap(taken_over(answer))
        else:  # heartbeats and streams share the loop
            flags.swap(await asyncio.to_thread(taken_over, answer))

    return Resource(
        "flags",
        PATH,
        {"environment": environment},
        accept,
        kinds=frozenset({"flag", "segment"}),
        concerns=lambda change: change.get("environment") == environment,
        saved=lambda: saved(flags.held),
        restore=lambda content: flags.swap(restored(content)),
        noticed=flags.noticed,
    )
