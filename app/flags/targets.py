"""Users that a flag names one by one: replace, append and remove up to 100,000 of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from app.flags.cache import EnvironmentFlags
from app.flags.definitions.representations import definition_of, named_users, with_named_users
from app.flags.errors import BadDefinition
from app.flags.model import Item
from app.flags.service import FlagService
from app.flags.writer import Definition, Plan, WriteRequest, plan_replace
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.conditions.attributes import subject_of
from pilothouse_core.conditions.reading import MAX_VALUES
from pilothouse_core.flags.model import Flag
from pilothouse_core.flags.simple_form import USER_LENGTH

Operation = Literal["replace", "append", "remove"]


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
        operation: Operation,
        users: Sequence[str],
        request: WriteRequest,
        *,
        variant: str | None = None,
    ) -> TargetChanges:
        """Change the users that a flag names; an edit without effect writes nothing.

        Raises BadDefinition for more than 100,000, and where it is not clear what they are served.
        """
        plan = _plan_targets(name, operation, users, variant, request.expected)
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
        operation: Operation,
        users: Sequence[str],
        request: WriteRequest,
        *,
        variant: str | None = None,
    ) -> TargetChanges:
        """Return the result of `write` without writing; raises as `write` does."""
        plan = _plan_targets(name, operation, users, variant, request.expected)
        edits = await self.flags.writer.preview(environment, plan)
        present = self.flags.item("flag", environment, name)
        if not edits:
            return await run_apart(
                _is_large(present), _target_changes, present.version, present, present, 0
            )
        then = replace(present, definition=edits[0].definition)
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


def _plan_targets(
    name: str,
    operation: Operation,
    users: Sequence[str],
    variant: str | None,
    expected: Callable[[int], bool] | None,
) -> Plan:
    def make(environment: EnvironmentFlags, item: Item) -> Definition:
        flag = environment.flag(name) or definition_of(item)
        assert isinstance(flag, Flag)
        named = named_users(flag)
        present = () if named is None else named.users
        then = _OPERATIONS[operation](present, users)
        if len(then) > MAX_VALUES:
            detail = f"would name {len(then)} users, more than {MAX_VALUES}"
            raise BadDefinition("", detail, "too_many")
        if set(then) == set(present):
            return flag
        return with_named_users(flag, then, variant)

    return plan_replace("flag", name, make, expected)


def _replace(_: Sequence[Any], users: Sequence[str]) -> list[Any]:
    return list(dict.fromkeys(users))


def _append(present: Sequence[Any], users: Sequence[str]) -> list[Any]:
    return list(dict.fromkeys([*present, *users]))


def _remove(present: Sequence[Any], users: Sequence[str]) -> list[Any]:
    gone = set(users)
    return [user for user in present if user not in gone]


_OPERATIONS: Mapping[Operation, Callable[[Sequence[Any], Sequence[str]], list[Any]]] = {
    "replace": _replace,
    "append": _append,
    "remove": _remove,
}


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
        raise BadDefinition(pointer, "is neither a string nor a whole number", "wrong_type")
    if not text:
        raise BadDefinition(pointer, "is empty", "missing")
    if len(text) > USER_LENGTH:
        raise BadDefinition(pointer, f"{where}has more than {USER_LENGTH} characters", "too_long")
    return text
