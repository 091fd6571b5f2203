"""Keys as paths: names joined by dots, and in brackets whatever does not fit between dots.

`database.pool.size` has three plain names. `nodeSelector[kubernetes.io/os]` leads to the member
`kubernetes.io/os` of `nodeSelector`, as Spring writes it. A key has one canonical spelling: plain
names with dots, all others in brackets, with a backslash before `]` and before a backslash.
"""

import re
from collections.abc import Sequence

MAX_KEY_LENGTH = 1024
MAX_MEMBER_LENGTH = 256
KEY_GRAMMAR = (
    "dotted names of 1 to 64 letters, digits, '_' and '-'; any other name in brackets, as in "
    f"`a[b.c/d].e`, 1 to {MAX_MEMBER_LENGTH} characters without control characters; at most "
    f"{MAX_KEY_LENGTH} characters in all"
)
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_-]{1,64}(?:\.[A-Za-z0-9_-]{1,64})*", re.ASCII)
_BRACKETED = r"\[((?:[^\]\\]|\\[\]\\])+)\]"
_PATH = re.compile(
    rf"(?:[A-Za-z0-9_-]{{1,64}}|{_BRACKETED})(?:\.[A-Za-z0-9_-]{{1,64}}|\.?{_BRACKETED})*", re.ASCII
)
_NAME = re.compile(rf"\.?([A-Za-z0-9_-]{{1,64}})|\.?{_BRACKETED}", re.ASCII)
_ESCAPED = re.compile(r"\\([\]\\])")
_SPECIAL = re.compile(r"[\]\\]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def names_of(key: str) -> tuple[str, ...]:
    """Return the names of the members that lead to a key, outermost first.

    A dotted text is a path if every part is a plain name, or a name in brackets; any other text is
    the name of one member. A name that reads as a path, such as the `a.b` of `[a.b]`, keeps its
    brackets: so a document says the same when it is sent back.
    """
    if _PLAIN_PATH.fullmatch(key):
        return tuple(key.split("."))
    if "[" in key and _PATH.fullmatch(key):
        return tuple(
            plain or _member(_ESCAPED.sub(r"\1", bracketed))
            for plain, bracketed in _NAME.findall(key)
        )
    return (key,)


def key_of(names: Sequence[str]) -> str:
    """Return the canonical spelling of the key to which these names lead."""
    key = ""
    for name in names:
        key = join_key(key, name)
    return key


def join_key(section: str, name: str) -> str:
    """Return the key of the member `name` of the section at a canonical key."""
    if _PLAIN_PATH.fullmatch(name):  # one of several plain names occurs in files of clients only
        return f"{section}.{name}" if section else name
    return section + (name if _is_bracketed(name) else _in_brackets(name))


def join_item(key: str, index: int) -> str:
    """Return the key of an item of the list at a canonical key, by its number."""
    return f"{key}[{index}]"


def join_member(key: str, name: str) -> str:
    """Return the key of a member of an object in a list, where names are no paths."""
    return f"{key}.{name}" if _PLAIN.fullmatch(name) else key + _in_brackets(name)


def bare_name(name: str) -> str:
    """Return a name that keeps its brackets, because it would read as a path, without them."""
    return _ESCAPED.sub(r"\1", name[1:-1]) if _is_bracketed(name) else name


def canonical_key(key: str) -> str:
    """Return a key in its canonical spelling; a text that is not a key is returned unchanged."""
    return key if _PLAIN_PATH.fullmatch(key) else key_of(names_of(key))


def is_key(text: str) -> bool:
    """Tell whether `text` leads to a member that a document may hold."""
    return 0 < len(text) <= MAX_KEY_LENGTH and all(map(is_member, names_of(text)))


def is_plain(name: str) -> bool:
    """Tell whether a name needs no brackets between dots."""
    return _PLAIN.fullmatch(name) is not None


def is_member(name: str) -> bool:
    """Tell whether a document may hold a member of this name."""
    return 0 < len(name) <= MAX_MEMBER_LENGTH and _CONTROL.search(name) is None


def is_below(key: str, section: str) -> bool:
    """Tell whether a canonical key lies in the section at another; every key is below ""."""
    if not section:
        return bool(key)
    return key.startswith(section) and key[len(section) : len(section) + 1] in {".", "["}


def _member(name: str) -> str:
    """Return the member of this name, in brackets if the bare name would read as a path."""
    is_path = _PLAIN_PATH.fullmatch(name) if "[" not in name else _PATH.fullmatch(name)
    return name if _PLAIN.fullmatch(name) or not is_path else _in_brackets(name)


def _is_bracketed(name: str) -> bool:
    return name.startswith("[") and names_of(name) == (name,) and _PATH.fullmatch(name) is not None


def _in_brackets(name: str) -> str:
    return f"[{_SPECIAL.sub(_escape, name)}]"


def _escape(special: re.Match[str]) -> str:
    return f"\\{special[0]}"
