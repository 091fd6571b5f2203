"""Users that a flag names one by one: replace, append and remove up to 100,000 of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.flags.definitions.plans import ChangeTargets, TargetOperation
from app.flags.definitions.representations import definition_of, named_users
from app.flags.errors import BadDefinition
from app.flags.model import Item
from app.flags.service import FlagService
from app.flags.writer import WriteRequest
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.conditions.attributes import subject_of
from pilothouse_core.flags.model import Flag
from pilothouse_core.flags.simple_form import USER_LENGTH


@dataclass(frozen=True, slots=True)
class TargetChanges:
    """The result of a change, or its preview, of the users that a flag names, without the users."""

    version: int
    enabled: bool
    variant: str | None  # that they are served; None: the flag names no users
    count: int
    added: int
    removed: int
    revision: int = 0  # of the change that was made; 0 where none was


@dataclass(frozen=True, slots=True)
class FlagTargets:
    flags: FlagService

    async def write(
        self,
        environment: str,
        name: str,
        operation: TargetOperation,
        users: Sequence[str],
        request: WriteRequest,
        *,
        variant: str | None = None,
    ) -> TargetChanges:
        """Change the users that a flag names; an edit without effect writes nothing.

        Raises BadDefinition for more than 100,000, and where it is not clear what they are served.
        """
        plan = ChangeTargets(name, operation, tuple(users), variant)
        items = await self.flags.writer.write(environment, plan, request)
        item = self.flags.written_or_current("flag", environment, name, items)
        former = await self._former(item) if items else item
        revision = items[0].revision if items else 0
        return await run_apart(
            _is_large(item), _target_changes, item.version, former, item, revision
        )

    async def preview(
        self,
        environment: str,
        name: str,
        operation: TargetOperation,
        users: Sequence[str],
        request: WriteRequest,
        *,
        variant: str | None = None,
    ) -> TargetChanges:
        """Return the result of `write` without writing; raises as `write` does."""
        plan = ChangeTargets(name, operation, tuple(users), variant)
        preview = await self.flags.writer.preview(environment, plan, request.expected)
        present = preview.present_item("flag", name)
        assert present is not None  # the plan requires it
        if not preview.edits:
            return await run_apart(
                _is_large(present), _target_changes, present.version, present, present, 0
            )
        then = replace(present, definition=preview.edits[0].definition)
        return await run_apart(
            _is_large(then), _target_changes, present.version + 1, present, then, 0
        )

    async def _former(self, item: Item) -> Item | None:
        """Return the version before: also of a request that was answered before under its key."""
        versions = await self.flags.store.history(
            "flag", item.environment, item.name, 1, item.version
        )
        return versions[0] if versions else None


def _is_large(item: Item) -> bool:
    return len(item.definition) > LARGE_TEXT


def _target_changes(version: int, former: Item | None, item: Item, revision: int) -> TargetChanges:
    flag = definition_of(item)
    assert isinstance(flag, Flag)
    before = _users_of(former)
    named = named_users(flag)
    after = set() if named is None else set(named.users)
    return TargetChanges(
        version=version,
        enabled=flag.enabled,
        variant=None if named is None else named.variant,
        count=len(after),
        added=len(after - before),
        removed=len(before - after),
        revision=revision,
    )


def _users_of(item: Item | None) -> set[Any]:
    if item is None or not item.definition:
        return set()
    flag = definition_of(item)
    named = named_users(flag) if isinstance(flag, Flag) else None
    return set() if named is None else set(named.users)


def read_list(document: Any) -> list[str]:
    """Read a list of users as JSON: texts, and numbers by their decimals. Raises BadDefinition."""
    if not isinstance(document, list):
        raise BadDefinition("", "is not a list of user ids", "wrong_type")
    return [_read_user(user, f"/{number}", "") for number, user in enumerate(document)]


def read_lines(text: str) -> list[str]:
    """Read one user a line, without the space around it; empty lines are passed over."""
    lines = ((number, line.strip(" \t\r")) for number, line in enumerate(text.split("\n"), 1))
    return [_read_user(line, "", f"in line {number} ") for number, line in lines if line]


def _read_user(user: Any, pointer: str, where: str) -> str:
    if type(user) is str and 0 < len(user) <= USER_LENGTH:
        return user
    text = str(user) if type(user) is int and subject_of(user) is not None else user
    if type(text) is not str:
        raise BadDefinition(pointer, "is neither a string nor an integer", "wrong_type")
    if not text:
        raise BadDefinition(pointer, "is empty", "missing")
    if len(text) > USER_LENGTH:
        raise BadDefinition(pointer, f"{where}has more than {USER_LENGTH} characters", "too_long")
    return text
