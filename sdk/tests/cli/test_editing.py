"""pilothouse config edit, with editors that are programs."""

import json
import stat
import sys
from pathlib import Path

import pytest

from pilothouse.cli.yaml_text import parse_yaml
from sdk.tests.cli.terminal import Done, Terminal

EDITOR = """\
import pathlib, sys, urllib.request
file = pathlib.Path(sys.argv[-1])
text = file.read_text()
pathlib.Path({seen!r}).write_text(f"{{file.stat().st_mode & 0o777:o}}\\n{{text}}")
edited = {text!r}
file.write_text(text if edited is None else edited)
if {others!r}:
    request = urllib.request.Request({url!r}, {others!r}, {headers!r}, method="PATCH")
    urllib.request.urlopen(request).read()
sys.exit({code})
"""


class Editor:
    """Writes `text` into the file it is given; what it was shown is kept."""

    def __init__(self, folder: Path) -> None:
        self.seen = folder / "seen"
        self._script = folder / "editor.py"

    def edit_layer(
        self,
        pilothouse: Terminal,
        text: str | None,
        *words: str,
        others: object = None,
        code: int = 0,
    ) -> Done:
        """Edit a layer; `others` is what somebody else changes meanwhile."""
        variables = pilothouse.variables
        self._script.write_text(
            EDITOR.format(
                seen=str(self.seen),
                text=text,
                others=b"" if others is None else json.dumps(others).encode(),
                url=f"{variables['PILOTHOUSE_URL']}/api/v1/config"
                f"?service_name={variables['PILOTHOUSE_SERVICE']}",
                headers={"Authorization": f"Bearer {variables['PILOTHOUSE_TOKEN']}"},
                code=code,
            )
        )
        variables["EDITOR"] = f"{sys.executable} -I -S {self._script}"
        return pilothouse("config", "edit", *words)

    def draft_files(self) -> list[Path]:
        return list(self.seen.parent.glob("pilothouse-*.yaml"))


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Editor:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return Editor(tmp_path)


def test_what_is_edited_becomes_one_version(pilothouse: Terminal, editor: Editor) -> None:
    pilothouse.ok("config", "set", "db", '{"host": "db1", "port": 1, "old": true}')
    pilothouse.ok("config", "set", "db.password", "-", "--secret", stdin="hunter2")
    text = "db:\n  host: db2\n  port: 1\n  password: {$secret: masked}\n  new.key: 2024-05-01\n"

    done = editor.edit_layer(pilothouse, text, "-m", "by hand")

    mode, _, seen = editor.seen.read_text().partition("\n")
    assert done.code == 0, done.err
    assert mode == "600"
    assert "version 2" in seen.splitlines()[0]
    assert "hunter2" not in seen + done.out + done.err
    assert [line.split() for line in done.out.splitlines()[2:]] == [
        ["+", "db.new.key", "2024-05-01"],
        ["-", "db.old", "true"],
        ["~", "db.host", "db1", "db2"],
    ]
    assert pilothouse.ok("config", "effective", "--reveal", "--json").json()["data"] == {
        "db": {"host": "db2", "port": 1, "password": "hunter2", "new": {"key": "2024-05-01"}}
    }
    assert pilothouse.ok("config", "history", "--json").json()["items"][0]["comment"] == "by hand"
    assert editor.draft_files() == []


def test_a_layer_that_there_is_not_is_made(pilothouse: Terminal, editor: Editor) -> None:
    done = editor.edit_layer(pilothouse, "theme: dark\n", "--user", "ada", "--json")

    assert done.json()["version"] == 1
    assert pilothouse.ok("config", "get", "theme", "-u", "ada").out == "dark\n"


@pytest.mark.parametrize("text", [None, "", "# nothing\n"])
def test_an_unchanged_or_emptied_file_writes_nothing(
    pilothouse: Terminal, editor: Editor, text: str | None
) -> None:
    pilothouse.ok("config", "set", "a", "1")

    done = editor.edit_layer(pilothouse, text)

    assert (done.code, done.out) == (0, "nothing was changed\n")
    assert len(pilothouse.ok("config", "history", "--json").json()["items"]) == 1
    assert editor.draft_files() == []


def test_a_write_over_another_is_refused_and_the_text_is_kept(
    pilothouse: Terminal, editor: Editor
) -> None:
    pilothouse.ok("config", "set", "db", '{"host": "db1", "port": 1}')
    theirs = {"set": {"db.host": "theirs"}, "unset": ["db.port"]}

    done = editor.edit_layer(pilothouse, "db: {host: mine, port: 1}\n", others=theirs)

    (kept,) = editor.draft_files()
    assert done.code == 5
    assert [line.split() for line in done.out.splitlines()[1:]] == [
        ["-", "db.port", "1"],
        ["~", "db.host", "db1", "theirs"],
    ]
    assert str(kept) in done.err
    assert kept.read_text() == "db: {host: mine, port: 1}\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert pilothouse.ok("config", "get", "db.host").out == "theirs\n"


def test_a_program_is_told_what_the_other_has_changed(pilothouse: Terminal, editor: Editor) -> None:
    pilothouse.ok("config", "set", "a", "1")

    done = editor.edit_layer(pilothouse, "a: 3\n", "--json", others={"set": {"a": 2}})

    problem = done.problem()
    assert (done.code, done.out) == (5, "")
    assert problem["code"] == "stale_version"
    assert problem["theirs"]["changed"] == {"a": {"old": 1, "new": 2}}
    assert problem["file"] == str(editor.draft_files()[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", "line"),
        ("a: 1\na: 2\n", "twice"),
        ("- a\n", "mapping"),
        ("a: 1\na.b: 2\n", "a"),
        ('? "a\\tb"\n: 1\n', "a"),
        ("a: !!python/object:os.system {}\n", "line"),
    ],
)
def test_what_is_no_configuration_is_kept_and_not_written(
    pilothouse: Terminal, editor: Editor, text: str, message: str
) -> None:
    done = editor.edit_layer(pilothouse, text)

    assert done.code == 2
    assert message in done.err
    assert editor.draft_files()[0].read_text() == text


def test_what_the_service_refuses_is_kept(pilothouse: Terminal, editor: Editor) -> None:
    done = editor.edit_layer(pilothouse, "a: {$secret: masked}\n", "--json")

    assert done.code == 1
    assert done.problem()["code"] == "nothing_masked"
    assert editor.draft_files()[0].read_text() == "a: {$secret: masked}\n"


def test_an_editor_that_fails_writes_nothing(pilothouse: Terminal, editor: Editor) -> None:
    done = editor.edit_layer(pilothouse, "a: 1\n", code=3)
    pilothouse.variables["EDITOR"] = "/no/such/editor"
    absent = pilothouse("config", "edit")

    assert (done.code, absent.code) == (1, 1)
    assert "ended with 3" in done.err
    assert "/no/such/editor" in absent.err
    assert pilothouse("config", "history").code == 3


def test_what_the_service_writes_as_yaml_is_read_as_it_was(pilothouse: Terminal) -> None:
    texts = ["yes", "0777", "12:30", "2024-05-01", "1e3", "null", "~", "", " x", "a: b", "#", "-"]
    data = {
        "texts": [*texts, "two\nlines\n", "ä…", "0x1f", "1_000", "=", "<<", "!x", "&y", "*z"],
        "numbers": [0, -1, 1.5, 1e16, 1e-7, 10**20],
        "words": [True, False, None],
        "8080": {"on": [], "off": {}},
    }
    pilothouse.ok("config", "import", "-", "--format", "json", stdin=json.dumps(data))

    text = pilothouse.ok("config", "export").out

    assert parse_yaml(text) == data
    assert [type(number) for number in parse_yaml(text)["numbers"]] == [int, int, *[float] * 3, int]
