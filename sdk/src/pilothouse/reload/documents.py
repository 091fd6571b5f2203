"""Configuration files: from bytes to a tree, and back."""

import json
from collections.abc import Mapping
from typing import Any

from pilothouse.reload.errors import BadConfig
from pilothouse_core import strict_json

SUFFIXES = (".yaml", ".yml", ".json")


def read_document(content: bytes, suffix: str) -> dict[str, Any]:
    """Return what a file with this suffix holds.

    Raises BadConfig for bad syntax, members that stand twice, NaN and infinity, an empty file and
    a top level that is not a mapping.
    """
    if not content.strip():
        # An editor may just be writing it: nothing must not replace everything.
        raise BadConfig("is empty; a configuration without members is written {}")
    value = _value(content, suffix)
    if not isinstance(value, dict):
        raise BadConfig(f"holds {_kind(value)} where a mapping is expected")
    return value


def _value(content: bytes, suffix: str) -> Any:
    match suffix.lower():
        case ".json":
            try:
                return strict_json.loads(content)
            except strict_json.BadJson as error:
                raise BadConfig(f"not JSON: {error.reason}") from None
        case ".yaml" | ".yml":
            try:
                from pilothouse.reload import yaml_text  # noqa: PLC0415 - an extra
            except ImportError as error:
                raise BadConfig(
                    "YAML needs PyYAML: pip install 'pilothouse-client[yaml]'"
                ) from error
            try:
                text = content.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise BadConfig(f"not UTF-8 at byte {error.start}") from None
            return yaml_text.loads(text)
        case other:
            raise BadConfig(f"the suffix {other!r} is none of {', '.join(SUFFIXES)}")


def write_document(config: Mapping[str, Any], suffix: str) -> bytes:
    """Return the text of a file with this suffix. Raises BadConfig for what JSON cannot hold."""
    try:
        text = json.dumps(dict(config), allow_nan=False, ensure_ascii=False, indent=2)
    except (TypeError, ValueError) as error:
        raise BadConfig(f"cannot be written: {error}") from None
    if suffix.lower() == ".json":
        return text.encode() + b"\n"
    if suffix.lower() not in SUFFIXES:
        raise BadConfig(f"the suffix {suffix!r} is none of {', '.join(SUFFIXES)}")
    import yaml  # noqa: PLC0415 - an extra

    written = yaml.safe_dump(
        json.loads(text), allow_unicode=True, default_flow_style=False, sort_keys=False
    )
    return written.encode()


def _kind(value: Any) -> str:
    kinds = {type(None): "nothing", list: "a list", str: "a text", bool: "true or false"}
    return kinds.get(type(value), "a number")
