"""The flag set of an environment as a resource: what an answer is turned into, and where."""

import asyncio

from pilothouse.errors import BadAnswer
from pilothouse.flags.evaluation import Flags
from pilothouse.flags.persistence import restore_snapshot, snapshot_content
from pilothouse.flags.state import FlagState, apply_update
from pilothouse.sync import Resource
from pilothouse.transport import Answer

PATH = "/api/v1/flag-set"
_APART_FROM = 32_768  # bytes: what takes longer than a few milliseconds


def flag_set(environment: str, flags: Flags) -> Resource:
    """Return the resource that keeps `flags` current."""

    def taken_over(answer: Answer) -> FlagState:
        body = answer.object()
        if body.get("environment", environment) != environment:
            raise BadAnswer("the flag set of another environment")
        return apply_update(flags.state, body, "service", answer.etag)

    async def accept(answer: Answer) -> None:
        if len(answer.body) < _APART_FROM and flags.state.is_read:
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
        saved=lambda: snapshot_content(flags.state),
        restore=lambda content: flags.swap(restore_snapshot(content)),
        noticed=flags.notify_watchers,
    )
