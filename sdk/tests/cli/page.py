"""Runs the examples of docs/client/cli.md as a reader does: in order, as they stand."""

import shlex

from sdk.tests.cli.terminal import Done, Terminal
from tests.docs.pages import absent, blocks, examples

PAGE = "docs/client/cli.md"


def run_line(terminal: Terminal, line: str) -> Done:
    """Run one line of the page; a shell would take longer than the command."""
    command, _, stdin = line.partition("<<<")
    name, *words = shlex.split(command)
    assert name == "pilothouse", line
    return terminal(*words, stdin="".join(shlex.split(stdin)) + "\n")


def follow_commands(terminal: Terminal) -> None:
    """Run every tested example, and compare what it prints."""
    page_examples = [
        example for block in blocks(PAGE) if block.is_tested for example in examples(block.text)
    ]

    for example in page_examples:
        output = ""
        for line in filter(None, example.commands.splitlines()):
            done = run_line(terminal, line)
            output += done.out + done.err
            assert (done.code != 0) is example.is_refused, (line, done)
        assert absent(example, output) is None, (example, output)

    assert page_examples
