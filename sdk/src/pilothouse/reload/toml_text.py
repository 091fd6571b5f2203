"""TOML read into values of JSON."""

import math
import sys
from datetime import date, time
from typing import Any

from pilothouse.reload.errors import BadConfig


def loads(text: str) -> dict[str, Any]:
    """Return the document; dates and times are text. Raises BadConfig."""
    try:
        if sys.version_info >= (3, 11):
            import tomllib  # noqa: PLC0415 - absent from Python 3.10
        else:
            import tomli as tomllib  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise BadConfig("TOML needs tomli: pip install 'pilothouse-client[toml]'") from error
    try:
        return {name: _plain(value) for name, value in tomllib.loads(text).items()}
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"not TOML: {error}") from None
    except RecursionError:
        raise BadConfig("not TOML: too many levels") from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise BadConfig("holds a number that is not finite")
    return value
