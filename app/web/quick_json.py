"""The strict JSON of `pilothouse_core.strict_json`, read faster where a body is plain."""

import msgspec

from pilothouse_core import strict_json

_MOST_BRACKETS = 64  # no more than levels are allowed, so nothing can be too deep
_decode = msgspec.json.Decoder().decode


def loads(body: bytes) -> object:
    """Return and raise what `strict_json.loads` does.

    msgspec refuses whatever strict_json does, but for odd escapes, depth, and members that stand
    twice in one object. None of these can be in a body without a backslash, with few brackets, and
    with one colon for each member of the object and of the objects right inside it.
    """
    if (
        b"\\" not in body
        and body.isascii()
        and body.count(b"{") + body.count(b"[") <= _MOST_BRACKETS
    ):
        try:
            value = _decode(body)
        except msgspec.MsgspecError:
            pass  # strict_json says what is wrong
        else:
            if type(value) is dict and _members(value) == body.count(b":"):
                return value
    return strict_json.loads(body)


def _members(value: dict[str, object]) -> int:
    inner = [len(member) for member in value.values() if type(member) is dict]
    return len(value) + sum(inner)
