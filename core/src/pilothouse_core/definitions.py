"""Reading definitions that people wrote: every flaw names its place."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from pilothouse_core.suggestions import did_you_mean

_LONGEST_ECHO = 60


class DefinitionError(ValueError):
    """Something is wrong at `pointer`, a JSON pointer (RFC 6901) into the definition."""

    def __init__(self, pointer: str, detail: str, code: str = "bad_definition") -> None:
        super().__init__(f"{pointer or 'the definition'}: {detail}")
        self.pointer = pointer
        self.detail = detail
        self.code = code


class Place:
    """A value in a definition, and its JSON pointer."""

    __slots__ = ("_spent", "pointer", "value")

    def __init__(self, value: Any, pointer: str = "", spent: dict[str, int] | None = None) -> None:
        self.value = value
        self.pointer = pointer
        self._spent = {} if spent is None else spent  # one for the whole definition

    def fail(self, detail: str, code: str = "bad_definition") -> NoReturn:
        raise DefinitionError(self.pointer, detail, code)

    def spend(self, what: str, amount: int, at_most: int) -> None:
        """Count towards a limit of the whole definition; fails beyond `at_most`."""
        spent = self._spent[what] = self._spent.get(what, 0) + amount
        if spent > at_most:
            self.fail(f"is one too many: {what} of a definition are at most {at_most}", "too_many")

    def has(self, name: str) -> bool:
        return isinstance(self.value, Mapping) and name in self.value

    def member(self, name: str) -> "Place":
        """Return a member, which must be there."""
        if name not in self.object():
            self.at(name).fail("is missing", "missing")
        return self.at(name)

    def at(self, name: str) -> "Place":
        """Return a member; its value is None if it is missing."""
        escaped = name.replace("~", "~0").replace("/", "~1")
        return Place(self.object().get(name), f"{self.pointer}/{escaped}", self._spent)

    def object(self, known: Iterable[str] | None = None) -> Mapping[str, Any]:
        """Return an object; with `known`, one of no other members."""
        if not isinstance(self.value, Mapping):
            self.fail("is not an object", "wrong_type")
        if known is not None:
            for name in self.value:
                if name not in known:
                    self.at(name).fail(unknown_member(name, known), "unknown_member")
        return self.value

    def items(self, at_most: int) -> Sequence["Place"]:
        return [self.item(n) for n in range(len(self.values(at_most)))]

    def item(self, number: int) -> "Place":
        return Place(self.value[number], f"{self.pointer}/{number}", self._spent)

    def values(self, at_most: int) -> Sequence[Any]:
        """Return the bare values of a list: a place for each would cost more than to look at it."""
        if not isinstance(self.value, list):
            self.fail("is not a list", "wrong_type")
        if len(self.value) > at_most:
            self.fail(f"has {len(self.value)} items, more than {at_most}", "too_many")
        return self.value

    def text(self, at_most: int = 1000) -> str:
        if not isinstance(self.value, str):
            self.fail("is not a string", "wrong_type")
        if len(self.value) > at_most:
            self.fail(f"is longer than {at_most} characters", "too_long")
        return self.value

    def boolean(self) -> bool:
        if not isinstance(self.value, bool):
            self.fail("is not true or false", "wrong_type")
        return self.value

    def number(self) -> float:
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            self.fail("is not a number", "wrong_type")
        try:
            finite = math.isfinite(self.value)
        except OverflowError:
            finite = False
        if not finite:
            self.fail("is beyond what a double can hold", "wrong_type")
        return self.value

    def one_of(self, known: Iterable[str]) -> str:
        text = self.text()
        names = list(known)
        if text not in names:
            listed = ", ".join(names)
            detail = f"{quote(text)} is not one of {listed}{did_you_mean(text, names)}"
            self.fail(detail, "unknown")
        return text


def unknown_member(name: str, known: Iterable[str]) -> str:
    """Return the message for a member that is not in `known`."""
    return f"is not a known member{did_you_mean(name, sorted(known))}"


def quote(text: str) -> str:
    """Quote a text, shortened."""
    return repr(text if len(text) <= _LONGEST_ECHO else f"{text[:_LONGEST_ECHO]}...")
