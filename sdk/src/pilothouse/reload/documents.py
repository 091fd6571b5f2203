"""Configuration files: from bytes to a tree, and back."""

import codecs
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from pilothouse.reload import dotenv_text, toml_text
from pilothouse.reload.errors import BadConfig
from pilothouse_core import strict_json

SUFFIXES = (".yaml", ".yml", ".json", ".toml", ".env")
# Of YAML, with every alias expanded: more than the service stores, and less than fills the memory.
_MOST_NODES = 1_000_000
_MOST_CHARACTERS = 64 * 1024 * 1024


def read_document(content: bytes, suffix: str) -> dict[str, Any]:
    """Return the content of a file with this suffix.

    Raises BadConfig for bad syntax, repeated members, NaN and infinity, an empty file and a top
    level that is not a mapping.
    """
    if not content.strip():
        # An editor may be writing it at this moment: nothing must not replace everything.
        raise BadConfig("is empty; a configuration without members is written {}")
    value = _value(content, suffix)
    if not isinstance(value, dict):
        raise BadConfig(f"holds {_kind(value)} where a mapping is expected")
    return value


def suffix_of(name: str) -> str:
    """Return the suffix by which a file is read; for the name `.env`, which has none, `.env`."""
    return ".env" if name == ".env" else PurePath(name).suffix.lower()


def _value(content: bytes, suffix: str) -> Any:
    match suffix.lower():
        case ".toml":
            return toml_text.loads(_decode(content))
        case ".env":
            return dotenv_text.loads(_decode(content))
        case ".json":
            try:
                # Editors on Windows write a byte order mark.
                return strict_json.loads(content.removeprefix(codecs.BOM_UTF8))
            except strict_json.BadJson as error:
                raise BadConfig(f"not JSON: {error.reason}") from None
        case ".yaml" | ".yml":
            return _yaml_value(_decode(content))
        case other:
            raise BadConfig(f"the suffix {other!r} is not one of {', '.join(SUFFIXES)}")


def _yaml_value(text: str) -> Any:
    strict_yaml = _strict_yaml()
    limits = strict_yaml.Limits(nodes=_MOST_NODES, characters=_MOST_CHARACTERS)
    try:
        return strict_yaml.loads(text, limits=limits)
    except strict_yaml.BadYaml as error:
        raise BadConfig(str(error)) from None


def _strict_yaml() -> Any:
    try:
        from pilothouse_core import strict_yaml  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise BadConfig("YAML needs PyYAML: pip install 'pilothouse-client[yaml]'") from error
    return strict_yaml


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadConfig(f"not UTF-8 at byte {error.start}") from None


def write_document(config: Mapping[str, Any], suffix: str) -> bytes:
    """Return the text of a file with this suffix. Raises BadConfig for values JSON cannot hold."""
    try:
        text = json.dumps(dict(config), allow_nan=False, ensure_ascii=False, indent=2)
    except (TypeError, ValueError) as error:
        raise BadConfig(f"cannot be written: {error}") from None
    if suffix.lower() == ".json":
        return text.encode() + b"\n"
    if suffix.lower() not in {".yaml", ".yml"}:
        raise BadConfig(f"cannot be written: the suffix {suffix!r} is neither JSON nor YAML")
    written: str = _strict_yaml().dumps(json.loads(text))
    return written.encode()


def _kind(value: Any) -> str:
    kinds = {type(None): "nothing", list: "a list", str: "a text", bool: "true or false"}
    return kinds.get(type(value), "a number")
