"""Runs the examples of a page of the documentation as a reader does: in order, as they stand."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.service import ROOT

# What an example says, and what it is replaced with here.
ADDRESS = "http://127.0.0.1:8082"
PROGRAMS = ".venv/bin/"

MARK = "<!-- tested -->\n"
_BLOCK = re.compile(rf"({re.escape(MARK)})?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SHELL = frozenset({"sh", "console"})
_HEADING = re.compile(r"^##+ [A-Z]", re.MULTILINE)
_ANSWER = "# ->"
_PRINTED = re.compile(r"^ *# -> (.*)$", re.MULTILINE)
_LEFT_OUT = " ... "
_REFUSAL = re.compile(r'"status":[45]\d\d|^pilothouse: |urn:pilothouse:')

# A refused request fails its command, and its problem is told all the same.
_CURL = 'curl() { command curl --fail-with-body --silent --show-error "$@"; }\n'


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a page; those in a shell run where they are marked as tested."""

    language: str
    text: str
    is_tested: bool

    @property
    def is_shell(self) -> bool:
        return self.language in _SHELL


@dataclass(frozen=True, slots=True)
class Example:
    """Commands, and the parts of their output in the order in which the page shows them."""

    commands: str
    parts: list[str] = field(default_factory=list)

    @property
    def is_refused(self) -> bool:
        return any(map(_REFUSAL.search, self.parts))


def blocks(page: str, heading: str = "") -> Iterator[Block]:
    """Yield the blocks of a page, or those below a heading."""
    text = (ROOT / page).read_text()
    if heading:
        _, _, below = text.partition(f"\n{heading}\n")
        text = _HEADING.split(below)[0]
    for found in _BLOCK.finditer(text):
        yield Block(found[2], found[3], found[1] is not None)


def examples(block: str) -> Iterator[Example]:
    commands: list[str] = []
    parts: list[str] = []
    for line in block.splitlines():
        if line.startswith(_ANSWER):
            parts += line.removeprefix(_ANSWER).strip().split(_LEFT_OUT)
            continue
        if parts:
            yield Example("\n".join(commands), parts)
            commands, parts = [], []
        commands.append(line.removeprefix("$ "))
    if "".join(commands).strip():
        yield Example("\n".join(commands), parts)


def run(example: Example, address: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    programs = Path(sys.executable).parent
    commands = example.commands.replace(ADDRESS, address).replace(PROGRAMS, f"{programs}/")
    return subprocess.run(
        ("bash", "-e", "-o", "pipefail", "-c", _CURL + commands),
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PILOTHOUSE_URL": address,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,  # a command of ours starts slowly on a busy machine
    )


def absent(example: Example, output: str) -> str | None:
    """Return the first part that the output does not hold after the parts before it."""
    position = 0
    for part in example.parts:
        position = output.find(part, position)
        if position < 0:
            return part
        position += len(part)
    return None


def follow(page: str, address: str, folder: Path = ROOT, heading: str = "") -> None:
    """Run every tested example and every program of a page, and compare what they print."""
    names: dict[str, Any] = {"__name__": "page"}
    count = 0
    for block in blocks(page, heading):
        if block.is_shell and block.is_tested:
            for example in examples(block.text):
                follow_example(example, address, folder)
                count += 1
        elif block.language == "python":
            _execute(block.text, address, names)
            count += 1
    assert count, f"{page} has no example"


def follow_example(example: Example, address: str, folder: Path) -> None:
    """Run one example, and compare what it prints."""
    done = run(example, address, folder)
    output = done.stdout + done.stderr
    transcript = f"{example.commands}\n{output}"
    assert (done.returncode != 0) is example.is_refused, transcript
    missing = absent(example, output)
    assert missing is None, f"{missing!r} is not in\n{transcript}"


def _execute(program: str, address: str, names: dict[str, Any]) -> None:
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(program.replace(ADDRESS, address), names)
    assert printed.getvalue().splitlines() == _PRINTED.findall(program), program
