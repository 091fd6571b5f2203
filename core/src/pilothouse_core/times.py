"""Times as RFC 3339 text and as seconds since 1970."""

import re
from datetime import datetime, timedelta, timezone

_MOMENT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):([0-5]\d))",
    re.ASCII,
)


def seconds_of(text: str) -> float | None:
    """Return the seconds since 1970 of an RFC 3339 time, None if `text` is not one."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    fraction, _, sign, hours, minutes = match.groups()[6:]
    microseconds = int((fraction or "0")[:6].ljust(6, "0"))
    try:
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        zone = timezone(-offset if sign == "-" else offset)
        moment = datetime(year, month, day, hour, minute, second, microseconds, zone)
        return moment.timestamp()
    except (ValueError, OverflowError):
        return None
