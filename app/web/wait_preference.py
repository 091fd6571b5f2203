"""The header `Prefer: wait=N` (RFC 7240): how long a read may wait for a change."""

import re
from typing import Annotated

from fastapi import Depends, Header
from pydantic import WithJsonSchema

LONGEST_WAIT = 60.0

# An unclosed quotation matches the rest; otherwise matching would restart at every quote.
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*(?:"|\\?\Z))+', re.DOTALL)
_WAIT = re.compile(r'\s*wait\s*=\s*(?:"(\d{1,9})"|(\d{1,9}))\s*(?:;.*)?', re.IGNORECASE | re.DOTALL)
_IS_WAIT = re.compile(r"\s*wait\s*(?:[=;]|$)", re.IGNORECASE)


def requested_wait(prefer: str | None) -> float | None:
    """Return the seconds to wait, at most `LONGEST_WAIT`; None without a valid preference.

    Invalid preferences are ignored; of several `wait`, the first counts (RFC 7240, section 2).
    """
    waits = (part for part in _PREFERENCE.findall(prefer or "") if _IS_WAIT.match(part))
    stated = _WAIT.fullmatch(next(waits, ""))
    if stated is None:
        return None
    return min(float(stated[1] or stated[2]), LONGEST_WAIT)


async def _wait(
    prefer: Annotated[
        list[str] | None,
        WithJsonSchema({"type": "string"}),
        Header(
            alias="Prefer",
            description="`wait=N`: delay the response until something changes, at most 60 s.",
        ),
    ] = None,
) -> float | None:
    return requested_wait(",".join(prefer)) if prefer else None


Wait = Annotated[float | None, Depends(_wait)]
