"""What a command prints: tables for people, the API's own JSON for programs."""

import json
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column, Table
from rich.text import Text
from rich.tree import Tree

from pilothouse.cli.exit_codes import Failure
from pilothouse.cli.values import display_text, indented_json, visible

_UNBOUNDED = 100_000  # columns: what goes into a pipe or a file is never cut or wrapped

Branch = tuple[str, list[Any]]  # a sentence, and the branches below it


class Output:
    """Prints to standard output and error as they are now; `as_json` for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def document(self, document: Any) -> None:
        """Print one JSON document."""
        sys.stdout.write(indented_json(document))

    def line(self, document: Any) -> None:
        """Print one line of JSON, and flush it."""
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def raw(self, text: str) -> None:
        """Print text as it is, at a terminal with control characters escaped."""
        whole = text if text.endswith("\n") or not text else f"{text}\n"
        sys.stdout.write(visible(whole) if sys.stdout.isatty() else whole)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        styles: Sequence[str] = (),
        *,
        whole: Collection[str] = (),
    ) -> None:
        """Print rows; values other than strings are shown as JSON, None as an empty cell.

        Columns are folded where the terminal is narrow, but those that are to stay `whole`.
        """
        table = Table(box=None, pad_edge=False, header_style="bold")
        for number, column in enumerate(columns):
            style = styles[number] if number < len(styles) else ""
            table.add_column(column, overflow="fold", style=style, no_wrap=column in whole)
        for row in rows:
            table.add_row(*(Text(_cell(cell)) for cell in row))
        _print_trimmed(table)

    def tree(self, trunk: str, branches: Sequence[Branch]) -> None:
        """Print sentences as a tree."""
        tree = Tree(Text(visible(trunk)))
        _grow(tree, branches)
        _console(sys.stdout).print(tree)

    def changes(self, changes: Mapping[str, Any]) -> None:
        """Print added, removed and changed keys."""
        styles = ("bold", "cyan", "red", "green")
        self.table(("", "key", "old", "new"), list(difference(changes)), styles)

    def say(self, sentence: str, style: str = "") -> None:
        """Print a sentence for people, never in JSON."""
        if not self.as_json:
            _console(sys.stdout).print(Text(visible(sentence), style=style), soft_wrap=True)

    def fact(self, label: str, sentence: str, style: str = "") -> None:
        """Print a label and its sentence; long sentences are folded in their own column."""
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold", style=style)
        grid.add_row(Text(visible(label)), Text(visible(sentence)))
        _print_trimmed(grid)

    def note(self, sentence: str) -> None:
        """Print a remark for people, on standard error."""
        if not self.as_json:
            _console(sys.stderr).print(Text(visible(sentence), style="dim"), soft_wrap=True)

    def note_outage(self, away: Failure) -> None:
        """Report that the service is unavailable, and that the command waits for it."""
        self.note(f"{away}; waiting for it")

    def print_failure(self, failure: Failure) -> None:
        """Print a failure on standard error: one sentence, or the problem as JSON."""
        if self.as_json:
            sys.stderr.write(json.dumps(failure.problem, ensure_ascii=False) + "\n")
            return
        sentence = Text("pilothouse: ", style="red")
        sentence.append(visible(failure.sentence), style="default")
        _console(sys.stderr).print(sentence, soft_wrap=True)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator["Steps"]:
        """Show a progress bar on standard error, if it is a terminal."""
        console = _console(sys.stderr)
        # A long name is cut, so that the count stays in view.
        name = TextColumn("{task.description}", table_column=_column(overflow="ellipsis", ratio=1))
        bar = Progress(
            name,
            BarColumn(bar_width=20),
            MofNCompleteColumn(table_column=_column()),
            expand=True,
            console=console,
            transient=True,
            disable=self.as_json or not console.is_terminal,
        )
        with bar:
            yield Steps(bar, bar.add_task(what, total=total))


class Steps:
    def __init__(self, bar: Progress, task: Any) -> None:
        self._bar = bar
        self._task = task

    def done(self, what: str = "") -> None:
        self._bar.update(self._task, advance=1, description=visible(what))


def _column(**options: Any) -> Column:
    return Column(no_wrap=True, **options)


def _console(file: TextIO) -> Console:
    # Rich uses no colours without a terminal, or with NO_COLOR.
    width = None if file.isatty() else _UNBOUNDED
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False)


def _print_trimmed(table: Table) -> None:
    """Print a table without the spaces that fill its lines."""
    console = _console(sys.stdout)
    with console.capture() as captured:
        console.print(table)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _grow(tree: Tree, branches: Sequence[Branch]) -> None:
    for sentence, below in branches:
        _grow(tree.add(Text(visible(sentence))), below)


def _cell(cell: Any) -> str:
    match cell:
        case None:
            return ""
        case str():
            return visible(cell)
        case _:
            return visible(display_text(cell))


def difference(changes: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of an answer with `added`, `removed` and `changed` members."""
    for key, value in changes["added"].items():
        yield "+", key, "", display_text(value)
    for key, value in changes["removed"].items():
        yield "-", key, display_text(value), ""
    for key, change in changes["changed"].items():
        yield "~", key, display_text(change["old"]), display_text(change["new"])


def layer(source: Mapping[str, Any]) -> str:
    """Name a layer as `environment/service` or `environment/service/user`.

    The defaults of a schema are `schema:NAME`.
    """
    if "schema" in source:
        return f"schema:{source['schema']}"
    user = source.get("user")
    return f"{source['environment']}/{source['service_name']}" + (f"/{user}" if user else "")


def moment(text: Any) -> str:
    """Shorten a time of the API to whole seconds."""
    return "" if not text else str(text).partition(".")[0].rstrip("Z").replace("T", " ")
