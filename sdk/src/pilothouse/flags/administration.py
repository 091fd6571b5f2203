"""Changing flags from a program; the client's own copy is updated like after any other change."""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

from pilothouse.transport import Answer, Transport

_FLAGS = "/api/v1/feature-flags"
_LONGER_SECONDS = 55.0  # for bodies of megabytes
_T = TypeVar("_T")


@dataclass(frozen=True)
class Targets:
    """What became, or would become, of the users that a flag names."""

    name: str
    environment: str
    version: int
    enabled: bool
    variant: str | None
    count: int
    added: int
    removed: int
    dry_run: bool


class AsyncFlagAdmin:
    """Needs a token with the right to write flags. Every method raises PilothouseError.

    `environment` is the client's unless it is stated; `if_version` writes only over that version.
    """

    def __init__(self, transport: Callable[[], Transport], environment: str) -> None:
        self._transport = transport
        self._environment = environment

    async def append_targets(  # noqa: PLR0913 - each is one thing a caller may say
        self,
        name: str,
        users: Iterable[str | int],
        *,
        environment: str | None = None,
        variant: str | None = None,
        comment: str = "",
        if_version: int | None = None,
        dry_run: bool = False,
    ) -> Targets:
        """Append users to those that a flag names, up to 100,000; known ones are passed over."""
        query = self._query(environment, comment, dry_run, variant)
        return await self._targets("POST", name, users, query, if_version)

    async def replace_targets(  # noqa: PLR0913 - each is one thing a caller may say
        self,
        name: str,
        users: Iterable[str | int],
        *,
        environment: str | None = None,
        variant: str | None = None,
        comment: str = "",
        if_version: int | None = None,
        dry_run: bool = False,
    ) -> Targets:
        """Let a flag name these users and no others."""
        query = self._query(environment, comment, dry_run, variant)
        return await self._targets("PUT", name, users, query, if_version)

    async def remove_targets(
        self,
        name: str,
        users: Iterable[str | int],
        *,
        environment: str | None = None,
        comment: str = "",
        if_version: int | None = None,
        dry_run: bool = False,
    ) -> Targets:
        """Remove users from those that a flag names; others are passed over."""
        query = self._query(environment, comment, dry_run, None)
        return await self._targets("DELETE", name, users, query, if_version)

    async def archive(
        self,
        name: str,
        *,
        environment: str | None = None,
        comment: str = "",
        if_version: int | None = None,
    ) -> dict[str, Any]:
        """Archive a flag, and return it; it is not served until it is restored."""
        body = {"comment": comment}
        return (await self._act(name, "archive", body, environment, if_version)).object()

    async def restore(
        self,
        name: str,
        *,
        environment: str | None = None,
        comment: str = "",
        if_version: int | None = None,
    ) -> dict[str, Any]:
        body = {"comment": comment}
        return (await self._act(name, "restore", body, environment, if_version)).object()

    async def kill(
        self,
        name: str,
        reason: str,
        *,
        environment: str | None = None,
        if_version: int | None = None,
    ) -> dict[str, Any]:
        """Turn a flag off, and return it; `reason` is kept in the history and in the audit."""
        body = {"reason": reason}
        return (await self._act(name, "kill", body, environment, if_version)).object()

    async def rollback(
        self,
        name: str,
        version: int,
        *,
        environment: str | None = None,
        comment: str = "",
        if_version: int | None = None,
        force: bool = False,
    ) -> dict[str, Any]:
        """Write an earlier version of a flag as a new one, and return it."""
        body = {"version": version, "comment": comment}
        answer = await self._act(name, "rollback", body, environment, if_version, force=force)
        return answer.object()

    async def copy(  # noqa: PLR0913 - each is one thing a caller may say
        self,
        name: str,
        to: str,
        *,
        environment: str | None = None,
        overwrite: bool = False,
        comment: str = "",
        force: bool = False,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Copy a flag to the environment `to`; return `status`, `version` and `missing`."""
        body = {"to": to, "overwrite": overwrite, "comment": comment, "dry_run": dry_run}
        return (await self._act(name, "copy", body, environment, None, force=force)).object()

    async def export(self, *, environment: str | None = None) -> bytes:
        """Return all flags and segments of an environment, to be kept and imported again."""
        params = {"format": "pilothouse", "environment": environment or self._environment}
        path = f"{_FLAGS}/export"
        return (await self._transport().get(path, params, longer=_LONGER_SECONDS)).body

    async def import_flags(
        self,
        exported: bytes,
        *,
        environment: str | None = None,
        comment: str = "",
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Import what `export` returned, in one commit; return what became of each flag."""
        params = {**self._query(environment, comment, dry_run, None), "format": "pilothouse"}
        answer = await self._transport().request(
            "POST",
            f"{_FLAGS}/import",
            params=params,
            headers=_headers("application/json", None),
            content=exported,
            longer=_LONGER_SECONDS,
        )
        return answer.object()

    def _query(
        self,
        environment: str | None,
        comment: str,
        dry_run: bool,  # noqa: FBT001
        variant: str | None,
    ) -> dict[str, str]:
        query = {"environment": environment or self._environment}
        if comment:
            query["comment"] = comment
        if dry_run:
            query["dry_run"] = "true"
        if variant is not None:
            query["variant"] = variant
        return query

    async def _targets(
        self,
        method: str,
        name: str,
        users: Iterable[str | int],
        query: Mapping[str, str],
        if_version: int | None,
    ) -> Targets:
        answer = await self._transport().request(
            method,
            f"{_FLAGS}/{quote(name, safe='')}/targets",
            params=query,
            headers=_headers("application/json", if_version),
            body=list(users),
            longer=_LONGER_SECONDS,
        )
        members = answer.object()
        return Targets(**{member: members[member] for member in Targets.__dataclass_fields__})

    async def _act(
        self,
        name: str,
        action: str,
        body: Mapping[str, Any],
        environment: str | None,
        if_version: int | None,
        *,
        force: bool = False,
    ) -> Answer:
        params = {"environment": environment or self._environment}
        if force:
            params["force"] = "true"
        return await self._transport().request(
            "POST",
            f"{_FLAGS}/{quote(name, safe='')}/{action}",
            params=params,
            headers=_headers("application/json", if_version),
            body=dict(body),
        )


def _headers(media_type: str, if_version: int | None) -> dict[str, str]:
    headers = {"Content-Type": media_type, "Idempotency-Key": uuid4().hex}
    return headers if if_version is None else {**headers, "If-Match": f'"{if_version}"'}


class FlagAdmin:
    """`AsyncFlagAdmin` for programs without an event loop; the same arguments."""

    def __init__(
        self,
        flags: AsyncFlagAdmin,
        run: Callable[[Coroutine[Any, Any, Any]], Any],
    ) -> None:
        self._flags = flags
        self._run = run

    def append_targets(self, name: str, users: Iterable[str | int], **options: Any) -> Targets:
        return self._result_of(self._flags.append_targets(name, users, **options))

    def replace_targets(self, name: str, users: Iterable[str | int], **options: Any) -> Targets:
        return self._result_of(self._flags.replace_targets(name, users, **options))

    def remove_targets(self, name: str, users: Iterable[str | int], **options: Any) -> Targets:
        return self._result_of(self._flags.remove_targets(name, users, **options))

    def archive(self, name: str, **options: Any) -> dict[str, Any]:
        return self._result_of(self._flags.archive(name, **options))

    def restore(self, name: str, **options: Any) -> dict[str, Any]:
        return self._result_of(self._flags.restore(name, **options))

    def kill(self, name: str, reason: str, **options: Any) -> dict[str, Any]:
        return self._result_of(self._flags.kill(name, reason, **options))

    def rollback(self, name: str, version: int, **options: Any) -> dict[str, Any]:
        return self._result_of(self._flags.rollback(name, version, **options))

    def copy(self, name: str, to: str, **options: Any) -> dict[str, Any]:
        return self._result_of(self._flags.copy(name, to, **options))

    def export(self, **options: Any) -> bytes:
        return self._result_of(self._flags.export(**options))

    def import_flags(self, exported: bytes, **options: Any) -> dict[str, Any]:
        return self._result_of(self._flags.import_flags(exported, **options))

    def _result_of(self, call: Coroutine[Any, Any, _T]) -> _T:
        result: _T = self._run(call)
        return result
