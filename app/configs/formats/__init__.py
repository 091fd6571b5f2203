"""Configuration files as people import and export them. Pure: text in, text out."""

import json
import re
from collections.abc import Mapping
from typing import Final, Literal

from app.configs.formats import dotenv_text, properties_text, yaml_text
from app.configs.formats.errors import BadFile, FileTooComplex, NameClash
from app.configs.formats.sections import Section, section
from pilothouse_core import strict_json

__all__ = ["BadFile", "FileTooComplex", "Format", "NameClash", "Section", "parse", "render"]

Format = Literal["yaml", "json", "properties", "dotenv"]

_BOM: Final = "\ufeff"
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def parse(text: str, kind: Format) -> list[Section]:
    """The sections of a file in their order; those without any content are left out.

    Raises BadFile, and FileTooComplex for YAML whose aliases expand beyond all measure.
    """
    text = text.removeprefix(_BOM)
    if found := _UNSTORABLE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise BadFile("a NUL character or half of a surrogate pair", line)
    return [section(members) for members in _documents(text, kind)]


def _documents(text: str, kind: Format) -> list[dict[str, object]]:
    match kind:
        case "yaml":
            return yaml_text.read(text)
        case "json":
            return [_json_object(text)]
        case "properties":
            return properties_text.read(text)
        case "dotenv":
            members = dotenv_text.read(text)
            return [members] if members else []


def _json_object(text: str) -> dict[str, object]:
    try:
        value = strict_json.loads(text)
    except strict_json.BadJson as error:
        raise BadFile(f"not JSON that can be accepted: {error}") from error
    if not isinstance(value, dict):
        raise BadFile("the file is not a JSON object")
    return value


def render(data: Mapping[str, object], kind: Format) -> str:
    """`data` as a file; its sections are nested, no member's name holds a dot.

    YAML and JSON hold everything, masked secrets included. Properties and dotenv hold scalars as
    text, and a comment instead of a secret. Raises NameClash when two keys meet in one name of a
    dotenv file.
    """
    match kind:
        case "yaml":
            return yaml_text.write(data)
        case "json":
            return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        case "properties":
            return properties_text.write(data)
        case "dotenv":
            return dotenv_text.write(data)
