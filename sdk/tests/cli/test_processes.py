"""The command line as a process: pipes, signals, terminals."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sdk.tests.cli.terminal import Terminal
from tests.servers.process import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.slow
CYAN = "\x1b[36m"
COLOUR = re.compile(r"\x1b\[(?:3|4|9)[0-9;]*m")


def start_command(terminal: Terminal, *words: str, **streams: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*terminal.argv, *words], env=terminal.environment, encoding="utf-8", **streams
    )


def at_terminal(terminal: Terminal, *words: str, typing: str = "", until: str = "") -> str:
    """Run a command whose three streams are one terminal; type when it has said `until`."""
    ours, theirs = pty.openpty()
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    # A session of its own: else it would ask at the terminal from which the tests are run.
    with start_command(terminal, *words, **streams, start_new_session=True) as process:
        os.close(theirs)
        output = b""
        while chunk := next_output(ours):
            output += chunk
            if typing and until.encode() in output:
                os.write(ours, typing.encode())
                typing = ""
        os.close(ours)
        if process.poll() is None and typing:
            process.kill()
    return output.decode()


def next_output(descriptor: int, within: float = 20) -> bytes:
    """Return what is written next, nothing where the other side has gone or says nothing."""
    if not select.select([descriptor], [], [], within)[0]:
        return b""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


def test_the_script_is_installed_and_tells_its_version(nowhere: Terminal) -> None:
    script = Path(sys.executable).with_name("pilothouse")

    done = subprocess.run(
        [script, "--version"], env=nowhere.environment, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "pilothouse", "")


def test_a_reader_that_leaves_is_no_failure_worth_a_word(pilothouse: Terminal) -> None:
    for number in range(3):
        pilothouse.ok("config", "set", f"long.{number}", "x" * 60_000)
    with start_command(
        pilothouse, "config", "list", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        said = process.stderr.read()
        code = process.wait(10)

    assert (code, said) == (141, "")


@pytest.mark.parametrize("words", [("config", "list"), ("config", "list", "--json")])
def test_output_that_cannot_be_written_is_told_in_one_sentence(
    pilothouse: Terminal, words: tuple[str, ...]
) -> None:
    pilothouse.ok("config", "set", "a", "1")
    with (
        Path("/dev/full").open("w") as full,
        start_command(pilothouse, *words, stdout=full, stderr=subprocess.PIPE) as process,
    ):
        _, said = process.communicate(timeout=2 * PATIENCE_SECONDS)

    assert process.returncode == 1
    assert "standard output cannot be written: No space left on device" in said
    assert len(said.splitlines()) == 1


def test_ctrl_c_is_quiet_while_a_value_is_waited_for(nowhere: Terminal) -> None:
    with start_command(
        nowhere, "config", "set", "a", "-", stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        wait_until(lambda: _reads_standard_input(process.pid), "it reads")
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        code = process.wait(10)

    assert (code, said) == (130, "")


def _reads_standard_input(pid: int) -> bool:
    try:
        call, descriptor, *_ = Path(f"/proc/{pid}/syscall").read_text().split()
    except (OSError, ValueError):  # it runs
        return False
    return (call, descriptor) == ("0", "0x0")


def test_a_secret_is_asked_for_and_not_shown_while_it_is_typed(pilothouse: Terminal) -> None:
    seen = at_terminal(
        pilothouse, "config", "set", "token", "--secret", typing="hunter2\n", until="value: "
    )

    assert "is set" in seen
    assert "hunter2" not in seen
    assert pilothouse.ok("config", "get", "token", "--reveal").out == "hunter2\n"


def test_colours_are_for_terminals(pilothouse: Terminal) -> None:
    pilothouse.ok("config", "set", "a.colourful.key", "1")
    pilothouse.variables["TERM"] = "xterm"

    assert f"{CYAN}a.colourful.key" in at_terminal(pilothouse, "config", "list")
    assert "\x1b" not in pilothouse.ok("config", "list").out


def test_an_import_shows_how_far_it_is_to_a_terminal_alone(
    pilothouse: Terminal, tmp_path: Path
) -> None:
    folder = tmp_path / ("wider-than-the-terminal" * 5)
    folder.mkdir()
    (folder / "a.yaml").write_text("a: 1\n")
    pilothouse.variables |= {"TERM": "xterm", "NO_COLOR": "1"}
    words = ("config", "import", str(folder / "a.yaml"))

    seen = at_terminal(pilothouse, *words)

    assert "1/1" in seen
    assert COLOUR.search(seen) is None
    assert pilothouse.ok(*words).err == ""


def test_commands_are_completed(nowhere: Terminal) -> None:
    nowhere.variables |= {
        "_PILOTHOUSE_COMPLETE": "complete_bash",
        "COMP_WORDS": "pilothouse config ro",
        "COMP_CWORD": "2",
    }
    with start_command(nowhere, stdout=subprocess.PIPE) as process:
        out, _ = process.communicate(timeout=PATIENCE_SECONDS)

    assert out.split() == ["rollback"]
