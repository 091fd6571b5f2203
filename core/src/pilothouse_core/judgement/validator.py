"""How jsonschema-rs is asked, wherever a schema is judged.

Its defaults would fetch what a schema refers to, from the network and from files, show values in
its messages, and match patterns in exponential time; none of it happens here.
"""

from typing import Any, Final

import jsonschema_rs

_MASK: Final = "the value"
_PATTERN_BYTES: Final = 1 << 20  # of one compiled pattern
_PATTERNS: Final = jsonschema_rs.RegexOptions(_PATTERN_BYTES, _PATTERN_BYTES)


def make_validator(schema: Any, *, draft: Any = None, ignore_unknown_formats: bool = True) -> Any:
    """Compile a schema, of the draft that its `$schema` names unless a class is given.

    Raises ValidationError and ValueError as jsonschema-rs does.
    """
    return (draft or jsonschema_rs.validator_for)(
        schema,
        validate_formats=True,
        ignore_unknown_formats=ignore_unknown_formats,
        mask=_MASK,
        pattern_options=_PATTERNS,
        offline=True,
    )
