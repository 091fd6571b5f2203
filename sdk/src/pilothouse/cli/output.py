"""What a command prints: tables for people, the API's own JSON for programs."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from pilothouse.cli.exits import Failure
from pilothouse.cli.values import indented, shown, visible

_UNBOUNDED = 100_000  # columns: what goes into a pipe or a file is never cut or wrapped

Branch = tuple[str, list[Any]]  # a sentence, and the branches below it


class Output:
    """Prints to standard output and error as they are now; `as_json` for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def document(self, document: Any) -> None:
        """Print one JSON document."""
        sys.stdout.write(indented(document))

    def line(self, document: Any) -> None:
        """Print one line of JSON at once, for whoever reads line by line."""
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def raw(self, text: str) -> None:
        """Print text as it is; at a terminal without what would steer it."""
        whole = text if text.endswith("\n") or not text else f"{text}\n"
        sys.stdout.write(visible(whole) if sys.stdout.isatty() else whole)

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[Any]], styles: Sequence[str] = ()
    ) -> None:
        """Print rows; a value that is no string is shown as JSON, None as nothing."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for number, column in enumerate(columns):
            style = styles[number] if number < len(styles) else ""
            table.add_column(column, overflow="fold", style=style)
        for row in rows:
            table.add_row(*(Text(_cell(cell)) for cell in row))
        console = _console(sys.stdout)
        with console.capture() as captured:
            console.print(table)
        sys.stdout.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())

    def tree(self, trunk: str, branches: Sequence[Branch]) -> None:
        """Print sentences below sentences."""
        tree = Tree(Text(visible(trunk)))
        _grow(tree, branches)
        _console(sys.stdout).print(tree)

    def changes(self, found: Mapping[str, Any]) -> None:
        """Print what was added, removed and changed, key by key."""
        styles = ("bold", "cyan", "red", "green")
        self.table(("", "key", "old", "new"), list(difference(found)), styles)

    def say(self, sentence: str, style: str = "") -> None:
        """Print a sentence for people, never in JSON."""
        if not self.as_json:
            _console(sys.stdout).print(Text(visible(sentence), style=style), soft_wrap=True)

    def note(self, sentence: str) -> None:
        """Tell people something beside the answer, on standard error."""
        if not self.as_json:
            _console(sys.stderr).print(Text(visible(sentence), style="dim"), soft_wrap=True)

    def lost(self, away: Failure) -> None:
        """Tell that the service is away, and is waited for."""
        self.note(f"{away}; waiting for it")

    def failed(self, failure: Failure) -> None:
        """Tell a failure on standard error: one sentence, or the problem as JSON."""
        if self.as_json:
            sys.stderr.write(json.dumps(failure.problem, ensure_ascii=False) + "\n")
            return
        sentence = Text("pilothouse: ", style="red")
        sentence.append(visible(failure.sentence), style="default")
        _console(sys.stderr).print(sentence, soft_wrap=True)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator["Steps"]:
        """Show a bar on standard error, if it is a terminal and somebody reads along."""
        console = _console(sys.stderr)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        bar = Progress(
            *columns,
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


def _console(file: TextIO) -> Console:
    # Rich leaves colours away where there is no terminal, and where NO_COLOR says so.
    width = None if file.isatty() else _UNBOUNDED
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False)


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
            return visible(shown(cell))


def difference(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of an answer with `added`, `removed` and `changed` members."""
    for key, value in found["added"].items():
        yield "+", key, "", shown(value)
    for key, value in found["removed"].items():
        yield "-", key, shown(value), ""
    for key, change in found["changed"].items():
        yield "~", key, shown(change["old"]), shown(change["new"])


def layer(source: Mapping[str, Any]) -> str:
    """Name a layer as `environment/service` or `environment/service/user`."""
    user = source.get("user")
    return f"{source['environment']}/{source['service_name']}" + (f"/{user}" if user else "")


def moment(text: Any) -> str:
    """Shorten a time of the API to whole seconds."""
    return "" if not text else str(text).partition(".")[0].rstrip("Z").replace("T", " ")
