"""Which names exist: the grammar that is checked before anything is built from them."""

import re

# The grammars in words, for messages that refuse a name.
NAME_GRAMMAR = (
    "1 to 63 letters, digits, '.', '_' and '-', no '..'; the first and last a letter, digit or '_'"
)
INSTANCE_GRAMMAR = "1 to 128 letters, digits, '.', '_', '-', ':' and '@', as names begin and end"
USER_GRAMMAR = f"{NAME_GRAMMAR}; '@' and '+' between them"
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9_])?", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._@+-]{0,61}[A-Za-z0-9_])?", re.ASCII)
# Those of Spring and Eureka are host:application:port.
_INSTANCE = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._:@-]{0,126}[A-Za-z0-9_])?", re.ASCII)


def is_name(text: str) -> bool:
    """Tell whether `text` may name an environment, a service, a flag or a segment."""
    return _NAME.fullmatch(text) is not None and ".." not in text


def is_user(text: str) -> bool:
    """Tell whether `text` may name a user: as a name, and also `@` and `+`."""
    return _USER.fullmatch(text) is not None and ".." not in text


def is_service_path(text: str) -> bool:
    """Tell whether `text` may name a service that others registered: names with `/` between."""
    return all(map(is_name, text.split("/")))


def is_instance_id(text: str) -> bool:
    """Tell whether `text` may name an instance: at most 128 characters, also `:` and `@`."""
    return _INSTANCE.fullmatch(text) is not None
