"""Patterns that are written for Python 3.11, and compiled by Python 3.10 as well."""

import re
import sys

_POSSESSIVE = re.compile(r"([*+])\+")


def compile_pattern(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """Compile a pattern whose possessive quantifiers only save time."""
    if sys.version_info < (3, 11):
        pattern = _POSSESSIVE.sub(r"\1", pattern)
    return re.compile(pattern, flags)
