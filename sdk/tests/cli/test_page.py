"""The examples of docs/client/cli.md answer what the page shows."""

import shlex

from sdk.tests.cli.terminal import Done, Terminal
from tests.docs.test_examples import absent, blocks, examples

PAGE = "docs/client/cli.md"


def typed(terminal: Terminal, line: str) -> Done:
    """Run one line of the page; a shell would take longer than the command."""
    command, _, stdin = line.partition("<<<")
    name, *words = shlex.split(command)
    assert name == "pilothouse", line
    return terminal(*words, stdin="".join(shlex.split(stdin)) + "\n")


def test_every_example_answers_what_the_page_shows(pilothouse: Terminal) -> None:
    del pilothouse.variables["PILOTHOUSE_SERVICE"]
    found = [example for tested, block in blocks(PAGE) if tested for example in examples(block)]

    for example in found:
        output = ""
        for line in filter(None, example.commands.splitlines()):
            done = typed(pilothouse, line)
            output += done.out + done.err
            shown_to_fail = any("pilothouse: " in part or "urn:" in part for part in example.parts)
            assert (done.code != 0) is shown_to_fail, (line, done)
        assert absent(example, output) is None, (example, output)

    assert found
