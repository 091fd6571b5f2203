"""Configuration files as people import and export them, with errors of the service."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from app.configs.formats.errors import BadFile, FileTooComplex, NameClash, NotExpressible
from pilothouse_core import config_files
from pilothouse_core.config_files import Format, Section, errors, yaml_text

__all__ = [
    "BadFile",
    "FileTooComplex",
    "Format",
    "NameClash",
    "NotExpressible",
    "Section",
    "parse",
    "read_yaml",
    "render",
]


def parse(text: str, kind: Format, *, types: bool = False) -> list[Section]:
    """Return the sections of a file in their order. Raises BadFile and FileTooComplex."""
    with _translate_errors():
        return config_files.parse(text, kind, types=types)


def render(data: Mapping[str, object], kind: Format, *, types: bool = False) -> str:
    """Return `data` as a file. Raises NameClash and NotExpressible."""
    with _translate_errors():
        return config_files.render(data, kind, types=types)


def read_yaml(text: str) -> list[dict[str, object]]:
    """Return the mappings of all YAML documents. Raises BadFile and FileTooComplex."""
    with _translate_errors():
        return yaml_text.read(text)


@contextmanager
def _translate_errors() -> Iterator[None]:
    # Not chained: a cause may hold the text of the file.
    try:
        yield
    except errors.BadFile as error:
        raise BadFile(error.reason, error.line, error.column) from None
    except errors.FileTooComplex as error:
        raise FileTooComplex(str(error)) from None
    except errors.NameClash as error:
        raise NameClash(error) from None
    except errors.NotExpressible as error:
        raise NotExpressible(error) from None
