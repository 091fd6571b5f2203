"""The flag set of an environment as a resource: what an answer is turned into, and where."""

import asyncio
from typing import Any

from pilothouse.errors import BadAnswer
from pilothouse.flags.evaluating import Flags
from pilothouse.flags.held import HeldFlags, Source, taken
from pilothouse.following import Resource
from pilothouse.transport import Answer

PATH = "/api/v1/flag-set"
_APART_FROM = 32_768  # bytes: what takes longer than a few milliseconds


def flag_set(environment: str, flags: Flags) -> Resource:
    """Return what keeps `flags` current."""

    def take(body: Any, source: Source, version: str) -> HeldFlags:
        if not isinstance(body, dict):
            raise BadAnswer("an answer that is no flag set")
        if body.get("environment", environment) != environment:
            raise BadAnswer("the flag set of another environment")
        return taken(flags.held, body, source, version)

    async def accept(answer: Answer) -> None:
        def taken_over() -> HeldFlags:
            return take(answer.object(), "service", answer.etag)

        if len(answer.body) < _APART_FROM:
            flags.swap(taken_over())
        else:  # heartbeats and streams share the loop
            flags.swap(await asyncio.to_thread(taken_over))

    def restore(saved: Any) -> None:
        flags.swap(take(saved, "snapshot", str(saved.get("version", ""))))

    def saved() -> Any:
        return flags.held.saved()

    return Resource(
        "flags",
        PATH,
        {"environment": environment},
        accept,
        kinds=frozenset({"flag", "segment"}),
        concerns=lambda change: change.get("environment") == environment,
        saved=saved,
        restore=restore,
        noticed=flags.noticed,
    )
