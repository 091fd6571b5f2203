"""`pilothouse export-all` and `pilothouse apply`, against real services."""

import json
import os
import pty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilothouse.cli.exit_codes import ExitCode
from sdk.tests.cli.conftest import ADMIN
from sdk.tests.cli.terminal import Terminal
from sdk.tests.cli.test_processes import next_output, start_command
from tests.servers.service import ServiceProcess

MANIFEST = "format: pilothouse-folder-1\ncontents: [{groups}]\n"
EVERYTHING = "config, users, flags, segments, schemas, templates, policies"
SEGMENT = "when: {attribute: country, op: in, values: [de]}\n"
FLAG = """\
type: boolean
variants: {{'on': true, 'off': false}}
default_variant: 'off'
enabled: true
rules:
- id: some
  when: {{segment: {segment}}}
  serve: {{variant: 'on'}}
"""


@pytest.fixture(scope="module")
def own_service() -> Iterator[ServiceProcess]:
    """A service of these tests alone, as they remove what others would need."""
    settings = {"PILOTHOUSE_ACCESS": "required", "PILOTHOUSE_ADMIN_TOKEN": ADMIN}
    with ServiceProcess(settings) as process:
        yield process


@pytest.fixture
def terminal(
    own_service: ServiceProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Terminal:
    """A terminal of an administrator of an empty installation, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    variables = {"PILOTHOUSE_URL": own_service.url, "PILOTHOUSE_TOKEN": ADMIN}
    terminal = Terminal(tmp_path / "home", variables)
    write_files("empty", {})
    terminal.ok("apply", "empty", "--prune", "--yes")
    return terminal


def write_files(folder: str, files: dict[str, str], groups: str = EVERYTHING) -> Path:
    root = Path(folder)
    for name, text in {"pilothouse.yaml": MANIFEST.format(groups=groups), **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def files_of(folder: str) -> dict[str, str]:
    root = Path(folder)
    paths = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}


STORY = {
    "config/default/_shared.yaml": "log:\n  level: info\n",
    "config/production/orders.yaml": "db:\n  pool:\n    max: 40\n    min: 1\n",
    "config/production/orders/users/a@b.yaml": "theme: dark\n",
    "segments/production/germans.yaml": SEGMENT,
    "flags/production/new-pool.yaml": FLAG.format(segment="germans"),
    "schemas/orders.yaml": "schema:\n  type: object\n  properties:\n    db: {type: object}\n",
    "templates/web.yaml": "parameters:\n  type: object\n  properties: {port: {type: integer}}\n"
    "data: {http: {port: {$param: port}}}\n",
}


def test_a_folder_is_applied_and_exported_as_it_is(terminal: Terminal) -> None:
    write_files("f", STORY)

    dry = terminal.ok("apply", "f", "--dry-run")
    done = terminal.ok("apply", "f", "--yes", "-m", "the first")
    again = terminal.ok("apply", "f", "--yes")
    terminal.ok("export-all", "g")
    back = terminal.ok("apply", "g", "--prune", "--yes")
    twice = terminal.ok("export-all", "g")

    assert "+ config production/orders/a@b: added" in dry.out
    assert dry.err.endswith("nothing was written\n")
    assert "7 added" in dry.out
    assert done.out.endswith("7 of 7 changes written\n")
    assert again.out == back.out == "nothing to change\n"
    assert "0 files changed" in twice.out
    exported = files_of("g")
    assert exported.keys() == {*STORY, "pilothouse.yaml"}
    layers = {name: text for name, text in STORY.items() if name.startswith("config/")}
    assert layers.items() <= exported.items()
    history = terminal.ok("config", "history", "-s", "orders", "-e", "production", "--json").json()
    assert [version["comment"] for version in history["items"]] == ["the first"]


def test_what_has_no_file_is_removed_with_prune_only(terminal: Terminal) -> None:
    write_files("f", STORY)
    terminal.ok("apply", "f", "--yes")
    root = write_files("g", {"config/production/orders.yaml": "db:\n  pool:\n    max: 50\n"})

    kept = terminal.ok("apply", root, "--yes")
    planned = terminal.ok("apply", root, "--dry-run", "--prune", "--json").json()
    removed = terminal.ok("apply", root, "--yes", "--prune")

    assert "segment production/germans: has no file; --prune removes it" in kept.err
    assert "-  db.pool.min  1" in kept.out
    assert [each["kind"] for each in planned["changes"]] == [
        "config",
        "config",
        "flag",
        "segment",
        "template",
        "schema",
    ]
    assert "6 removed" in removed.out
    terminal.ok("export-all", "h")
    assert files_of("h").keys() == {"config/production/orders.yaml", "pilothouse.yaml"}


def test_only_what_the_folder_is_of_is_pruned(terminal: Terminal) -> None:
    write_files("f", STORY)
    terminal.ok("apply", "f", "--yes")
    write_files("g", {}, groups="segments, flags")

    done = terminal.ok("apply", "g", "--yes", "--prune")
    Path("g/pilothouse.yaml").unlink()
    refused = terminal("apply", "g", "--yes", "--prune")

    assert "2 removed" in done.out
    assert refused.code == ExitCode.USAGE
    assert "`export-all` writes that file" in refused.err


def test_one_environment_is_exported_and_pruned_alone(terminal: Terminal) -> None:
    write_files("f", STORY)
    terminal.ok("apply", "f", "--yes")

    terminal.ok("export-all", "g", "-e", "production")
    empty = write_files("h", {})
    done = terminal.ok("apply", empty, "--yes", "--prune", "-e", "production")

    assert {name.split("/")[0] for name in files_of("g")} == {
        "config",
        "flags",
        "segments",
        "pilothouse.yaml",
    }
    assert "config/default/_shared.yaml" not in files_of("g")
    assert "4 removed" in done.out
    assert terminal.ok("config", "get", "log.level").out == "info\n"


def test_a_mask_keeps_the_secret_and_is_listed_where_there_is_none(terminal: Terminal) -> None:
    files = {
        "config/default/orders.yaml": "db:\n  password:\n    $secret: masked\n  user: me\n",
        "config/default/users.yaml": "users:\n- name: a\n  password: {$secret: masked}\n",
    }
    write_files("f", files)

    done = terminal("apply", "f", "--yes")
    again = terminal("apply", "f", "--yes", "--json")
    terminal.ok("config", "set", "db.password", "-", "--secret", "-s", "orders", stdin="geheim")
    Path("f/config/default/users.yaml").unlink()
    write_files(
        "f", {"config/default/orders.yaml": "db:\n  password: {$secret: masked}\n  user: you\n"}
    )
    changed = terminal.ok("apply", "f", "--yes")

    assert done.code == again.code == ExitCode.INCOMPLETE
    assert "config default/orders: the secret db.password has to be set" in done.err
    assert "config default/users: the secret users has to be set" in done.err
    assert again.json()["changes"] == []
    assert again.json()["missing_secrets"][0] == {
        "kind": "config",
        "environment": "default",
        "service_name": "orders",
        "key": "db.password",
    }
    assert "~  db.user  me   you" in changed.out
    assert terminal.ok("config", "get", "db.password", "-s", "orders", "--reveal").out == "geheim\n"


def test_a_mask_in_a_list_that_means_no_secret_is_listed(terminal: Terminal) -> None:
    secret = "users:\n- name: a\n  password: {$secret: {value: geheim}}\n- {name: b}\n"
    write_files("f", {"config/default/orders.yaml": secret})
    terminal.ok("apply", "f", "--yes")
    moved = "users:\n- {name: c}\n- {name: x, password: {$secret: masked}}\nhost: h\n"
    write_files("f", {"config/default/orders.yaml": moved})

    done = terminal("apply", "f", "--yes")

    assert done.code == ExitCode.INCOMPLETE
    assert "the secret users has to be set" in done.err
    assert terminal.ok("config", "get", "host", "-s", "orders").out == "h\n"
    assert '"name": "a"' in terminal.ok("config", "get", "users", "-s", "orders").out


def test_no_secret_of_a_file_is_printed(terminal: Terminal) -> None:
    text = "pw: {$secret: {value: geheim}}\nusers: [{pw: {$secret: {value: geheim}}}]\n"
    write_files("f", {"config/default/orders.yaml": text})

    planned = terminal.ok("apply", "f", "--dry-run")
    as_json = terminal.ok("apply", "f", "--dry-run", "--json")
    terminal.ok("apply", "f", "--yes")
    write_files("f", {"config/default/orders.yaml": "pw: geheim\n"})
    plain = terminal.ok("apply", "f", "--yes")

    for done in (planned, as_json, plain):
        assert "geheim" not in done.out + done.err
    assert terminal.ok("config", "get", "pw", "-s", "orders", "--reveal").out == "geheim\n"


def confirm_after(terminal: Terminal, act: Callable[[], object], *words: str) -> tuple[int, str]:
    """Run a command at a terminal, and say yes after something else has happened."""
    ours, theirs = pty.openpty()
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    is_asked = False
    with start_command(terminal, *words, **streams, start_new_session=True) as process:
        os.close(theirs)
        output = b""
        while chunk := next_output(ours):
            output += chunk
            if b"[y/N]" in output and not is_asked:
                is_asked = True
                act()
                os.write(ours, b"y\n")
        os.close(ours)
    assert is_asked, output
    return process.returncode, output.decode()


@pytest.mark.slow
def test_what_changes_after_the_comparison_is_not_overwritten(terminal: Terminal) -> None:
    write_files("f", STORY)
    terminal.ok("apply", "f", "--yes")
    write_files("f", {"config/production/orders.yaml": "db: {pool: {max: 1}}\n"})
    write_files("f", {"config/default/_shared.yaml": "log: {level: debug}\n"})
    key = ("db.pool.max", "-s", "orders", "-e", "production")

    code, output = confirm_after(
        terminal, lambda: terminal.ok("config", "set", *key[:1], "99", *key[1:]), "apply", "f"
    )

    assert code == ExitCode.CONFLICT
    assert "f/config/production/orders.yaml: " in output
    assert "1 of 2 changes written" in output
    assert terminal.ok("config", "get", *key).out == "99\n"


@pytest.mark.slow
def test_what_ends_early_is_made_by_the_next_run(tmp_path: Path) -> None:
    settings = {"PILOTHOUSE_ACCESS": "required", "PILOTHOUSE_ADMIN_TOKEN": ADMIN}
    root = write_files(str(tmp_path / "f"), STORY)
    with ServiceProcess(settings) as service:
        variables = {"PILOTHOUSE_URL": service.url, "PILOTHOUSE_TOKEN": ADMIN}
        terminal = Terminal(tmp_path / "home", variables)

        code, output = confirm_after(terminal, service.kill, "apply", str(root))
        service.restart()
        done = terminal.ok("apply", root, "--yes")

    assert code == ExitCode.UNAVAILABLE, output
    assert done.out.endswith("7 of 7 changes written\n")


def test_the_order_of_schema_and_configuration_does_not_matter(terminal: Terminal) -> None:
    strict = "schema:\n  type: object\n  properties: {port: {type: integer, maximum: 10}}\n"
    write_files("f", {"config/default/orders.yaml": "port: 11\n"})
    terminal.ok("apply", "f", "--yes")
    write_files("f", {"config/default/orders.yaml": "port: 9\n", "schemas/orders.yaml": strict})

    dry = terminal.ok("apply", "f", "--dry-run")
    tighter = terminal.ok("apply", "f", "--yes")
    write_files(
        "f",
        {
            "config/default/orders.yaml": "port: 20\n",
            "schemas/orders.yaml": strict.replace("10", "20"),
        },
    )
    looser = terminal.ok("apply", "f", "--yes")
    write_files("f", {"config/default/orders.yaml": "host: a\n\nport: 21\n"})
    refused = terminal("apply", "f", "--yes")
    refused_dry = terminal("apply", "f", "--dry-run")

    assert "may be refused" in dry.out
    assert tighter.out.endswith("2 of 2 changes written\n")
    assert looser.out.endswith("2 of 2 changes written\n")
    assert refused.code == refused_dry.code == ExitCode.FAILED
    assert "f/config/default/orders.yaml:3:1" in refused.err
    assert "is refused" in refused_dry.out


def test_flags_are_archived_restored_and_written_in_the_order_they_need(terminal: Terminal) -> None:
    needs = "prerequisites: [{flag: zz, variants: ['on']}]\n"
    write_files(
        "f",
        {
            "segments/default/people.yaml": SEGMENT,
            "flags/default/aa.yaml": FLAG.format(segment="people") + needs,
            "flags/default/zz.yaml": FLAG.format(segment="people"),
            "flags/default/old.yaml": FLAG.format(segment="people") + "archived: true\n",
        },
    )
    first = terminal.ok("apply", "f", "--yes")
    same = terminal.ok("apply", "f", "--yes")
    write_files("f", {"flags/default/old.yaml": FLAG.format(segment="people") + "owner: me\n"})
    restored = terminal.ok("apply", "f", "--yes", "--json").json()
    flag = terminal.ok("flags", "get", "old", "--json").json()
    write_files("g", {})
    removed = terminal.ok("apply", "g", "--yes", "--prune")

    assert first.out.endswith("4 of 4 changes written\n")
    assert same.out == "nothing to change\n"
    assert restored["changes"][0]["status"] == "written"
    assert (flag["owner"], flag["archived"]) == ("me", False)
    assert removed.out.endswith("4 of 4 changes written\n")


def test_a_dry_run_says_how_many_buckets_move_and_where_a_refusal_lies(terminal: Terminal) -> None:
    write_files("f", {"segments/default/people.yaml": SEGMENT})
    write_files("f", {"flags/default/new.yaml": FLAG.format(segment="people")})
    terminal.ok("apply", "f", "--yes")
    changed = FLAG.format(segment="people").replace(
        "default_variant: 'off'", "default_variant: 'on'"
    )
    write_files("f", {"flags/default/new.yaml": changed})

    moved = terminal.ok("apply", "f", "--dry-run").out
    write_files("f", {"flags/default/new.yaml": FLAG.format(segment="nobody")})
    refused = terminal("apply", "f", "--dry-run")

    assert "~  default_variant  off  on" in moved
    assert "100000 of 100000 buckets move (off -> on: 100000)" in moved
    assert refused.code == ExitCode.FAILED
    assert "is refused" in refused.out
    assert "f/flags/default/new.yaml:7:3 there is no segment 'nobody'" in refused.out


def test_a_share_that_is_changed_in_a_file_is_changed_once(terminal: Terminal) -> None:
    made = terminal.ok("flags", "create", "new", "--rollout", "20", "--json").json()
    terminal.ok("export-all", "f")
    path = Path("f/flags/default/new.yaml")
    changed = path.read_text().replace("'on': 20", "'on': 50").replace("'off': 80", "'off': 50")
    path.write_text(changed)

    first = terminal.ok("apply", "f", "--dry-run")
    terminal.ok("apply", "f", "--yes")
    second = terminal.ok("apply", "f", "--yes")

    assert "30000 of 100000 buckets move (off -> on: 30000)" in first.out
    assert second.out == "nothing to change\n"
    assert "- - 20000" in path.read_text()  # ranges of before, which the weights overrule
    assert terminal.ok("flags", "get", "new", "--json").json()["version"] == made["version"] + 1


def test_a_flag_of_few_members_is_unchanged_the_second_time(terminal: Terminal) -> None:
    simple = "variants: {'on': true, 'off': false}\ndefault_variant: 'on'\nenabled: true\n"
    write_files("f", {"flags/default/few.yaml": simple + "type: boolean\n"})
    terminal.ok("apply", "f", "--yes")

    assert terminal.ok("apply", "f", "--yes").out == "nothing to change\n"


def test_who_is_not_asked_at_a_terminal_says_yes(terminal: Terminal) -> None:
    write_files("f", STORY)

    refused = terminal("apply", "f")

    assert refused.code == ExitCode.USAGE
    assert "--yes writes without asking" in refused.err
    assert terminal("config", "get", "log.level").code == ExitCode.NOT_FOUND


def test_who_may_read_little_exports_little(terminal: Terminal) -> None:
    write_files("f", STORY)
    terminal.ok("apply", "f", "--yes")
    words = ("token", "create", "reader", "--class", "operator", "--role", "viewer")
    token = terminal.ok(*words, "--environments", "production", "--services", "orders").out.strip()
    terminal.variables["PILOTHOUSE_TOKEN"] = token

    terminal.ok("export-all", "g")

    assert "config/default/_shared.yaml" not in files_of("g")
    assert "config/production/orders.yaml" in files_of("g")


def test_files_that_do_not_belong_are_removed_with_prune_only(terminal: Terminal) -> None:
    write_files("f", STORY)
    terminal.ok("apply", "f", "--yes")
    foreign = {"config/gone/orders/users/me.yaml": "a: 1\n", "config/README.md": "mine\n"}
    write_files("g", foreign)

    kept = terminal.ok("export-all", "g")
    pruned = terminal.ok("export-all", "g", "--prune", "--json").json()

    assert "g/config/gone/orders/users/me.yaml: not in the installation" in kept.err
    assert pruned["removed"] == ["config/gone/orders/users/me.yaml"]
    assert pruned["foreign"] == ["config/README.md"]
    assert not Path("g/config/gone").exists()
    assert Path("g/config/README.md").read_text() == "mine\n"


def test_without_users_nothing_of_users_is_written_or_pruned(terminal: Terminal) -> None:
    write_files("f", STORY)
    terminal.ok("apply", "f", "--yes")

    terminal.ok("export-all", "g", "--no-users")
    done = terminal.ok("apply", "g", "--prune", "--yes")

    assert "config/production/orders/users/a@b.yaml" not in files_of("g")
    assert done.out == "nothing to change\n"


HOSTILE = {
    "a bomb": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "a key twice": "port: 1\nport: 2\n",
    "a key in two spellings": "a.b: 1\na: {b: 2}\n",
    "a list": "- 1\n",
    "two documents": "a: 1\n---\na: 2\n",
    "no YAML": "a: [1\n",
    "a number that is not exact": "a: 0.1000000000000000055511151231257827\n",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_bad_file_is_named_and_nothing_is_written(terminal: Terminal, what: str) -> None:
    write_files(
        "f", {"config/default/bad.yaml": HOSTILE[what], "config/default/good.yaml": "a: 1\n"}
    )

    done = terminal("apply", "f", "--yes")

    assert done.code == ExitCode.USAGE
    assert "f/config/default/bad.yaml" in done.err
    assert terminal("config", "get", "a", "-s", "good").code == ExitCode.NOT_FOUND


def test_every_bad_file_is_named_with_its_line(terminal: Terminal) -> None:
    root = write_files("f", {"config/default/twice.yaml": "a: 1\nb: 2\na: 3\n"})
    (root / "config/default/latin.yaml").write_bytes("a: 1\nb: ü\n".encode("latin-1"))
    (root / "config/default/orders.yml").write_text("a: 1\n")
    (root / "flags").mkdir()
    (root / "flags/lonely.yaml").write_text("a: 1\n")
    (root / "config/default/%6Frders.yaml").write_text("a: 1\n")

    problem = terminal("apply", "f", "--yes", "--json").problem()

    flaws = [each["detail"] for each in problem["errors"]]
    assert problem["code"] == "usage"
    assert any("f/config/default/twice.yaml:3:1: " in flaw for flaw in flaws)
    assert "f/config/default/latin.yaml:2: not UTF-8" in flaws
    assert any("f/config/default/orders.yml: not a file of a folder" in flaw for flaw in flaws)
    assert any("f/flags/lonely.yaml: " in flaw for flaw in flaws)
    assert any("belongs into config/default/orders.yaml" in flaw for flaw in flaws)


def test_links_are_not_followed(terminal: Terminal, tmp_path: Path) -> None:
    outside = write_files("outside", {"default/secret.yaml": "a: 1\n"})
    root = write_files("f", {"config/default/a.yaml": "a: 1\n"})
    (root / "config/default/linked.yaml").symlink_to(outside / "default/secret.yaml")
    (root / "flags").symlink_to(outside)

    read = terminal("apply", "f", "--yes")
    written = terminal("export-all", "f", "--prune")

    assert read.code == written.code == ExitCode.USAGE
    Path("g").mkdir()
    Path("g/pilothouse.yaml").symlink_to(tmp_path / "elsewhere")
    assert terminal("export-all", "g").code == ExitCode.USAGE
    assert not (tmp_path / "elsewhere").exists()
    for done in (read, written):
        assert "f/config/default/linked.yaml: a symbolic link, which is not followed" in done.err
        assert "f/flags: a symbolic link" in done.err
    assert (outside / "default/secret.yaml").exists()


def test_what_is_no_file_or_too_large_is_refused(terminal: Terminal) -> None:
    root = write_files("f", {})
    (root / "config/default").mkdir(parents=True)
    os.mkfifo(root / "config/default/pipe.yaml")
    with (root / "config/default/huge.yaml").open("wb") as file:
        file.truncate(33 * 1024 * 1024)

    done = terminal("apply", "f", "--yes")

    assert done.code == ExitCode.USAGE
    assert "pipe.yaml: not a file" in done.err
    assert "huge.yaml: larger than 32 MiB" in done.err


@pytest.mark.parametrize(
    "text", ["format: other\n", "[]\n", "format: pilothouse-folder-1\n", "a: [\n"]
)
def test_a_bad_manifest_is_refused(terminal: Terminal, text: str) -> None:
    write_files("f", {"pilothouse.yaml": text})

    done = terminal("apply", "f", "--yes")

    assert done.code == ExitCode.USAGE
    assert "f/pilothouse.yaml" in done.err


def test_a_folder_that_cannot_be_written_is_a_failure(terminal: Terminal) -> None:
    write_files("f", STORY)
    terminal.ok("apply", "f", "--yes")
    Path("file").write_text("no folder")

    done = terminal("export-all", "file", "--json")

    assert done.code == ExitCode.FAILED
    assert json.loads(done.err)["code"] == "file"
    assert terminal("apply", "nothing").code == ExitCode.USAGE
    assert terminal("export-all", "g", "-s", "orders").code == ExitCode.USAGE
