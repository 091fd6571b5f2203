"""A faster parser for plain bodies, equivalent to `pilothouse_core.strict_json`."""

import msgspec

from pilothouse_core import strict_json

_MOST_BRACKETS = 64  # equal to the allowed depth, so nothing can be too deep
_decode = msgspec.json.Decoder().decode


def loads(body: bytes, *, any_text: bool = False) -> object:
    """Return and raise the same as `strict_json.loads`.

    msgspec rejects everything that strict_json rejects, except some escapes, depth and repeated
    members. A body without a backslash, with few brackets, and with one colon for each member of
    the object and of the objects directly in it has none of these.
    """
    if (
        b"\\" not in body
        and body.isascii()
        and body.count(b"{") + body.count(b"[") <= _MOST_BRACKETS
    ):
        try:
            value = _decode(body)
        except msgspec.MsgspecError:
            pass  # strict_json reports the error
        else:
            if type(value) is dict and _members(value) == body.count(b":"):
                return value
    return strict_json.loads(body, any_text=any_text)


def _members(value: dict[str, object]) -> int:
    inner = [len(member) for member in value.values() if type(member) is dict]
    return len(value) + sum(inner)
