"""Configuration files as people import and export them. Pure: text in, text out.

Needs PyYAML, an extra of this package.
"""

import json
import re
from collections.abc import Mapping
from typing import Final, Literal

from pilothouse_core import strict_json, strict_yaml
from pilothouse_core.config_files import dotenv_text, properties_text, yaml_text
from pilothouse_core.config_files.errors import BadFile, FileTooComplex, NameClash, NotExpressible
from pilothouse_core.config_files.sections import Section, read_section

__all__ = [
    "BadFile",
    "FileTooComplex",
    "Format",
    "NameClash",
    "NotExpressible",
    "Section",
    "parse",
    "render",
]

Format = Literal["yaml", "json", "properties", "dotenv"]

_BOM: Final = "\ufeff"
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def parse(text: str, kind: Format, *, types: bool = False) -> list[Section]:
    """The sections of a file in their order; those without any content are left out.

    With `types`, comments say the types of values in properties and dotenv, see `render`.

    Raises BadFile, and FileTooComplex for YAML whose aliases expand beyond all measure.
    """
    text = text.removeprefix(_BOM)
    if match := _UNSTORABLE.search(text):
        line = text.count("\n", 0, match.start()) + 1
        raise BadFile("a NUL character or half of a surrogate pair", line)
    return [read_section(members) for members in _documents(text, kind, types=types)]


def _documents(text: str, kind: Format, *, types: bool) -> list[dict[str, object]]:
    match kind:
        case "yaml":
            return yaml_text.read(text)
        case "json":
            return [_json_object(text)]
        case "properties":
            return properties_text.read(text, types=types)
        case "dotenv":
            members = dotenv_text.read(text, types=types)
            return [members] if members else []


def _json_object(text: str) -> dict[str, object]:
    try:
        value = strict_json.loads(text, exact=True)
    except strict_json.BadJson as error:
        raise BadFile(f"not JSON that can be accepted: {error}") from error
    if not isinstance(value, dict):
        raise BadFile("the file is not a JSON object")
    return value


def render(data: Mapping[str, object], kind: Format, *, types: bool = False) -> str:
    """`data` as a file; its sections are nested, no member's name holds a dot.

    YAML and JSON hold everything, secrets as they are given. Properties and dotenv hold scalars as
    text, a comment instead of a masked secret, and the value of a revealed one. With `types` their
    comments say which values are not text, and which key a variable is. Raises NameClash when two
    keys meet in one name of a dotenv file, and NotExpressible.
    """
    match kind:
        case "yaml":
            return strict_yaml.dumps(data)
        case "json":
            return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        case "properties":
            return properties_text.write(data, types=types)
        case "dotenv":
            return dotenv_text.write(data, types=types)
