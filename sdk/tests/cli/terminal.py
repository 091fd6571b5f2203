"""The command line as a user has it: words in, an exit code and two streams out."""

import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilothouse.cli.runner import run

# Of whoever runs the tests; what stands there would decide their outcome.
INHERITED = ("PATH", "HOME", "LANG", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    def problem(self) -> Any:
        return json.loads(self.err)

    def table(self) -> list[list[str]]:
        """The cells of a table without its header; none of them may hold a space."""
        return [line.split() for line in self.out.splitlines()[1:]]


@dataclass
class Terminal:
    """Runs commands in this process, or as processes of their own, with a home of their own."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> Mapping[str, str]:
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        return {**inherited, "XDG_CONFIG_HOME": str(self.home), **self.variables}

    @property
    def argv(self) -> tuple[str, ...]:
        """What starts the command line as a process."""
        return sys.executable, "-m", "pilothouse.cli"

    def __call__(self, *words: object, stdin: str | None = None) -> Done:
        out, err = io.StringIO(), io.StringIO()
        surroundings = _surroundings(self.environment, stdin or "")
        with surroundings, redirect_stdout(out), redirect_stderr(err):
            code = run([str(word) for word in words])
        return Done(int(code), out.getvalue(), err.getvalue())

    def ok(self, *words: object, stdin: str | None = None) -> Done:
        """Run what has to succeed."""
        done = self(*words, stdin=stdin)
        assert done.code == 0, done.err
        return done


@contextmanager
def _surroundings(environment: Mapping[str, str], stdin: str) -> Iterator[None]:
    before, keyboard = dict(os.environ), sys.stdin
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()))
    try:
        yield
    finally:
        sys.stdin = keyboard
        os.environ.clear()
        os.environ.update(before)
