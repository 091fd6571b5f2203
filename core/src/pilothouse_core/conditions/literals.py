"""Texts in conditions that represent patterns, versions or numbers."""

import re
from functools import lru_cache
from typing import Any

import re2

from pilothouse_core.conditions.model import Comparison
from pilothouse_core.versions import VersionKey, full_version, version_key

_MAX_PATTERN_BYTES = 1024 * 1024
NUMERAL = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:inf(?:inity)?|nan))"
)


def loose_version_key(text: str) -> VersionKey | None:
    return version_key(full_version(text))


@lru_cache(maxsize=128)  # what is read is compiled, and priced, right afterwards
def compile_pattern(text: str, *, folds: bool) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not folds
    options.max_mem = _MAX_PATTERN_BYTES
    return re2.compile(text, options)


def pattern_steps(comparison: Comparison) -> int:
    """Count the steps of the programs that RE2 makes of the patterns of a comparison."""
    folds = comparison.case_insensitive
    return sum(
        int(compile_pattern(str(text), folds=folds).programsize) for text in comparison.values
    )
