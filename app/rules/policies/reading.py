"""Reads policies as they are stated and stored. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import time
from typing import Any, Final, get_args
from zoneinfo import ZoneInfo

from app.rules.definitions.model import Scope
from app.rules.errors import PolicyInvalid
from app.rules.policies.model import (
    DAYS,
    Approver,
    ClosedWindow,
    Policy,
    PolicyKind,
    RollbackRule,
)
from pilothouse_core.names import NAME_GRAMMAR, is_name

MOST_PATTERNS: Final = 100
MOST_APPROVALS: Final = 5
MOST_WINDOWS: Final = 20
_MOST_TEXT: Final = 1000
_LONGEST_SECONDS: Final = 366 * 86_400
_DURATION: Final = re.compile(r"([1-9][0-9]{0,7})([smhd])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)
_WINDOW_MEMBERS: Final = frozenset({"days", "zone", "from", "to"})
_DEFAULTS: Final[Mapping[str, Any]] = {
    "environments": ["*"],
    "services": ["*"],
    "kinds": [],
    "approvals": 1,
    "of": ["publisher"],
    "people_only": False,
    "valid_for": None,
    "rollback": "approved",
    "closed": [],
    "description": "",
}


def policy_text(body: Mapping[str, Any]) -> str:
    """Return what is stored of a body: every member, as it was sent or by default.

    Raises PolicyInvalid for a member that no policy has.
    """
    for member in sorted(body.keys() - _DEFAULTS.keys()):
        raise PolicyInvalid(f"/{member}", "no policy has this member")
    return json.dumps({**_DEFAULTS, **body}, ensure_ascii=False, separators=(",", ":"))


def read_policy(name: str, version: int, stored: Mapping[str, Any]) -> Policy:
    """Return the policy that a stored body states; raises PolicyInvalid with the place in it."""
    description = stored.get("description", "")
    if not isinstance(description, str) or len(description) > _MOST_TEXT:
        raise PolicyInvalid("/description", f"must be a text of at most {_MOST_TEXT} characters")
    approvals = stored.get("approvals")
    if type(approvals) is not int or not 1 <= approvals <= MOST_APPROVALS:
        raise PolicyInvalid("/approvals", f"must be a number from 1 to {MOST_APPROVALS}")
    people_only = stored.get("people_only")
    if type(people_only) is not bool:
        raise PolicyInvalid("/people_only", "must be true or false")
    rollback: Any = stored.get("rollback")
    if rollback not in get_args(RollbackRule):
        raise PolicyInvalid("/rollback", "must be `free` or `approved`")
    return Policy(
        name=name,
        version=version,
        scope=policy_scope(stored),
        kinds=frozenset(_words(stored, "kinds", get_args(PolicyKind))),
        approvals=approvals,
        of=frozenset(_words(stored, "of", get_args(Approver))),
        people_only=people_only,
        valid_for=_seconds(stored.get("valid_for")),
        rollback=rollback,
        closed=_closed_windows(stored.get("closed")),
    )


def policy_scope(stored: Mapping[str, Any]) -> Scope:
    """Return where a policy asks; raises PolicyInvalid."""
    return Scope(_patterns(stored, "environments"), _patterns(stored, "services"))


def _patterns(stored: Mapping[str, Any], member: str) -> tuple[str, ...]:
    listed = stored.get(member)
    if not isinstance(listed, list) or not 1 <= len(listed) <= MOST_PATTERNS:
        raise PolicyInvalid(f"/{member}", f"must be a list of 1 to {MOST_PATTERNS} patterns")
    for place, pattern in enumerate(listed):
        if not isinstance(pattern, str) or not is_name(pattern.replace("*", "x")):
            raise PolicyInvalid(
                f"/{member}/{place}",
                f"must be a name in which `*` matches any characters; a name is {NAME_GRAMMAR}",
            )
    return tuple(dict.fromkeys(listed))


def _words(stored: Mapping[str, Any], member: str, allowed: Sequence[str]) -> list[Any]:
    listed = stored.get(member)
    if not isinstance(listed, list) or not listed:
        raise PolicyInvalid(f"/{member}", f"must be a list of {' or '.join(allowed)}")
    for place, word in enumerate(listed):
        if word not in allowed:
            raise PolicyInvalid(f"/{member}/{place}", f"must be one of {', '.join(allowed)}")
        if word in listed[:place]:
            raise PolicyInvalid(f"/{member}/{place}", "is stated twice")
    return listed


def _seconds(text: Any) -> int | None:
    if text is None:
        return None
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    seconds = 0 if match is None else int(match[1]) * _SECONDS[match[2]]
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise PolicyInvalid("/valid_for", "must be a duration such as 90s, 30m, 12h or 7d")
    return seconds


def _closed_windows(listed: Any) -> tuple[ClosedWindow, ...]:
    if not isinstance(listed, list) or len(listed) > MOST_WINDOWS:
        raise PolicyInvalid("/closed", f"must be a list of at most {MOST_WINDOWS}")
    return tuple(_closed_window(f"/closed/{place}", each) for place, each in enumerate(listed))


def _closed_window(place: str, stated: Any) -> ClosedWindow:
    if not isinstance(stated, dict) or not stated.keys() <= _WINDOW_MEMBERS:
        raise PolicyInvalid(
            place, "must be an object with `days`, `zone`, and perhaps `from`, `to`"
        )
    try:
        days = _words(stated, "days", DAYS)
    except PolicyInvalid as error:
        raise PolicyInvalid(place + error.pointer, error.reason) from error
    zone = stated.get("zone")
    if not isinstance(zone, str) or not _is_zone(zone):
        raise PolicyInvalid(f"{place}/zone", "must be a time zone such as Europe/Berlin")
    begin, end = (_clock(f"{place}/{name}", stated.get(name)) for name in ("from", "to"))
    if begin == end and "from" in stated and "to" in stated:
        raise PolicyInvalid(f"{place}/to", "must be another time than `from`")
    return ClosedWindow(tuple(day for day in DAYS if day in days), zone, begin, end)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # not known, or no name of a file
        return False
    return True


def _clock(place: str, text: Any) -> time:
    if text is None:
        return time()
    match = _CLOCK.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise PolicyInvalid(place, "must be a time of the day such as 18:30")
    return time(int(match[1]), int(match[2]))
