"""Semantic versions (semver.org 2.0.0): parsing and precedence."""

import re

# The major, minor and patch numbers; then what comes before a release, which has precedence 1.
VersionKey = tuple[int, int, int, int, tuple[tuple[int, int, str], ...]]
_NUMBER = r"0|[1-9][0-9]*"
_PART = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_BUILD = "[0-9A-Za-z-]+"
_VERSION = re.compile(
    rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_PART}(?:\.{_PART})*))?(?:\+{_BUILD}(?:\.{_BUILD})*)?",
    re.ASCII,
)
_TAIL = re.compile(r"[-+]")
_LONGEST = 256


def version_key(text: str) -> VersionKey | None:
    """Return a key that orders versions by precedence, None if `text` is not a version."""
    match = _VERSION.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        return None
    major, minor, patch, before = match.groups()
    parts = tuple(map(_part, before.split("."))) if before else ()
    return int(major), int(minor), int(patch), not before, parts


def _part(text: str) -> tuple[int, int, str]:
    """Numbers compare as numbers and come before words."""
    return (0, int(text), "") if text.isdigit() else (1, 0, text)


def full_version(text: str) -> str:
    """Write out a version that people shorten: `v1.2-beta` is `1.2.0-beta`."""
    text = text[1:] if text.startswith(("v", "V")) else text
    numbers = _TAIL.split(text, maxsplit=1)[0]
    return numbers + ".0" * (2 - numbers.count(".")) + text[len(numbers) :]
