"""The examples of docs/client/cli.md answer what the page shows."""

from sdk.tests.cli.page import follow_commands
from sdk.tests.cli.terminal import Terminal


def test_every_example_answers_what_the_page_shows(pilothouse: Terminal) -> None:
    del pilothouse.variables["PILOTHOUSE_SERVICE"]

    follow_commands(pilothouse)
