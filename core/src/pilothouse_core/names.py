"""Which names and keys exist: the grammar that is checked before anything is built from them."""

import re

MAX_KEY_LENGTH = 256
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9_])?", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._@+-]{0,61}[A-Za-z0-9_])?", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def is_name(text: str) -> bool:
    """Tell whether `text` may name an environment, a service, a flag, a segment or an instance."""
    return _NAME.fullmatch(text) is not None and ".." not in text


def is_user(text: str) -> bool:
    """Tell whether `text` may name a user: as a name, and also `@` and `+`."""
    return _USER.fullmatch(text) is not None and ".." not in text


def is_key(text: str) -> bool:
    """Tell whether `text` is a dotted path of segments, at most 256 characters in all."""
    return len(text) <= MAX_KEY_LENGTH and all(map(_SEGMENT.fullmatch, text.split(".")))
