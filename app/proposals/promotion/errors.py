"""What is wrong with a comparison or a promotion."""

from collections.abc import Iterable
from typing import Any

from app.errors import Invalid, NotFound, PreconditionFailed, Unavailable

_MOST_FLAWS = 50  # that one answer lists


class PromotionsUnavailable(Unavailable):
    code = "promotions_unavailable"


class SamePlace(Invalid):
    """The two environments are one."""

    code = "same_environment"

    def __init__(self) -> None:
        super().__init__("an environment is not compared with itself")
        self.flaws = (_flaw("/to", "is the same environment as `from`", self.code),)


class TooManyRows(Invalid):
    """The comparison has more rows than one answer may hold."""

    code = "too_many_rows"

    def __init__(self, most: int) -> None:
        super().__init__(f"more than {most} rows differ or are the same: name fewer services")


class RowsRefused(Invalid):
    """Rows cannot be promoted as they are; `errors` names the place of each."""

    code = "bad_rows"

    def __init__(self, rows: Iterable[tuple[int, str]]) -> None:
        """`rows`: the numbers of the rows with the reasons."""
        super().__init__("some rows cannot be promoted; nothing was written")
        places = [_flaw(f"/rows/{number}", reason, self.code) for number, reason in rows]
        self.flaws = tuple(places[:_MOST_FLAWS])


class ComparisonMoved(PreconditionFailed):
    """What was compared has other versions now; compare again."""

    code = "comparison_moved"

    def __init__(self) -> None:
        super().__init__("the environments have changed since they were compared")


class BadPin(Invalid):
    """A pin is about nothing that a promotion could change."""

    code = "bad_pin"

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(f"this cannot be pinned: {pointer[1:]} {reason}")
        self.flaws = (_flaw(pointer, reason, self.code),)


class PinNotFound(NotFound):
    code = "pin_not_found"

    def __init__(self) -> None:
        super().__init__("there is no such pin")


def _flaw(pointer: str, detail: str, code: str) -> dict[str, Any]:
    return {"pointer": f"#{pointer}", "detail": detail, "code": code}
