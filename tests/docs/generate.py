"""Writes the reference pages that follow from the code: `make docs`."""

import importlib
import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

from annotated_types import Ge, Le
from prometheus_client import Counter, Gauge, Histogram
from pydantic.fields import FieldInfo

import app
from app import telemetry
from app.errors import PilothouseError
from app.settings import Settings
from app.web.problem import status_of
from tests.docs import record_examples
from tests.docs.meanings import MEANINGS
from tests.docs.settings_schema import settings_schema_text

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"
SETTINGS_SCHEMA = ROOT / "env.schema.json"
NOTE = "<!-- Written by `make docs`; a test compares it with the code. -->\n\n"


def openapi() -> str:
    """Return the output of the command, run without the settings of the caller's shell."""
    printed = subprocess.run(
        (sys.executable, "-m", "app", "openapi"),
        cwd=ROOT,
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        check=True,
        capture_output=True,
        text=True,
    )
    return printed.stdout


def settings() -> str:
    rows = (
        (f"`{name.upper()}`", _default(field), f"{field.description}{_range(field)}")
        for name, field in Settings.model_fields.items()
    )
    return (
        "# Settings\n\n"
        + NOTE
        + "Settings are read once at start from the environment of the process. An empty address,\n"
        "token or id means the same as an unset one. [`env.template`](../../env.template) lists\n"
        "all settings, ready to copy; [`env.schema.json`](../../env.schema.json) is their JSON\n"
        "Schema: `pilothouse validate .env --schema env.schema.json` judges a file of\n"
        "variables.\n\n" + _table(("Name", "Default", "Description"), rows)
    )


def _default(field: FieldInfo) -> str:
    return "" if field.default is None else f"`{field.default}`"


def _range(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        choices = [f"`{choice}`" for choice in get_args(field.annotation)]
        return f" One of {', '.join(choices)}." if len(choices) > 1 else f" Only {choices[0]}."
    least = [bound.ge for bound in field.metadata if isinstance(bound, Ge)]
    most = [bound.le for bound in field.metadata if isinstance(bound, Le)]
    if least and most:
        return f" {least[0]} to {most[0]}."
    return f" At least {least[0]}." if least else ""


def errors() -> str:
    rows = [(str(status_of(error)), f"`{error.code}`", meaning(error)) for error in named_errors()]
    return (
        "# Errors\n\n"
        + NOTE
        + "Every error is returned as `application/problem+json` (RFC 9457). `code` is stable and\n"
        "made for programs; `detail` is for people and may change. Every log line of the request\n"
        "has the same `request_id`. Other members depend on the code.\n\n"
        + _table(("Status", "Code", "Meaning"), sorted(rows))
    )


def named_errors() -> list[type[PilothouseError]]:
    """Return every error that has a code of its own, of every module there is."""
    for module in pkgutil.walk_packages(app.__path__, "app."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = [error for error in _below(PilothouseError) if "code" in vars(error)]
    return [error for error in found if error.__module__.startswith("app.")]


def _below(kind: type[PilothouseError]) -> Iterator[type[PilothouseError]]:
    for error in kind.__subclasses__():
        yield error
        yield from _below(error)


def meaning(error: type[PilothouseError]) -> str:
    """Return the meaning of a code: that of the table, else the docstring of the error."""
    return MEANINGS.get(error.code) or (error.__doc__ or "").strip().partition("\n")[0]


def metrics() -> str:
    rows = ((f"`{name}`", kind, labels, text) for name, kind, labels, text in _metrics())
    return (
        "# Metrics\n\n"
        + NOTE
        + "`GET /metrics` returns the text format of Prometheus. It also has the metrics of the\n"
        "process (`process_*`) and of Python (`python_*`).\n\n"
        + _table(("Name", "Type", "Labels", "Description"), rows)
    )


def _metrics() -> Iterator[tuple[str, str, str, str]]:
    for metric in vars(telemetry).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            (family,) = metric.describe()
            name = family.name + ("_total" if isinstance(metric, Counter) else "")
            names: Iterable[str] = metric._labelnames  # noqa: SLF001 - there is no other way
            yield name, family.type, ", ".join(names), family.documentation


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PAGES: dict[str, Callable[[], str]] = {
    "openapi.json": openapi,
    "settings.md": settings,
    "errors.md": errors,
    "metrics.md": metrics,
}


def main() -> None:
    record_examples.write()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
    SETTINGS_SCHEMA.write_text(settings_schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
