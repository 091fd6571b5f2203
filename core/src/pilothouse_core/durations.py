"""Durations as people write them: a whole number and a unit, such as `90s`, `10m`, `2h`, `7d`."""

import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FORM = re.compile(r"([0-9]{1,9})([smhd])")


def seconds_of(text: object, *, at_most: int) -> int:
    """Return the seconds of a duration; raises ValueError with the reason."""
    match = _FORM.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a duration is a whole number with one of the units s, m, h and d")
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > at_most:
        raise ValueError(f"the longest duration here is {duration_text(at_most)}")
    return seconds


def duration_text(seconds: int) -> str:
    """Return the shortest text of a duration."""
    unit = next(unit for unit in "dhms" if seconds % _UNITS[unit] == 0) if seconds else "s"
    return f"{seconds // _UNITS[unit]}{unit}"
