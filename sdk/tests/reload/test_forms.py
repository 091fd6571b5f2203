"""Forms of variables, references and files: what is text, what is a number, what is left out."""

import os
from pathlib import Path
from typing import Any

import pytest

from pilothouse.reload import (
    BadConfig,
    EnvironmentConfigSource,
    FileConfigSource,
    MissingVariable,
)
from pilothouse.reload.expansion import expand_tree

KNOWN = {
    "HOST": "db1",
    "PORT": "5432",
    "EMPTY": "",
    "EXPONENT": "1e5",
    "VERSION": "1.10",
    "ZEROS": "0042",
    "LARGE": "9007199254740993",
}
DOTENV = b"""
# a comment
export DB_HOST=${HOST}
DB__POOL_SIZE = 5   # connections
PASSWORD='a #"$b ${HOST}'
TEXT="007"
LINES="a\\nb"
DEBUG=False
VERSION=1.10
URL=http://x/#y
EMPTY=
"""


async def load_variables(variables: dict[str, str], **options: Any) -> dict[str, Any]:
    return dict(
        await EnvironmentConfigSource("APP", environment=variables, **options).load_config()
    )


async def test_what_kubernetes_sets_for_a_service_is_no_configuration() -> None:
    variables = {
        "APP_SERVICE_HOST": "10.0.0.1",
        "APP_SERVICE_PORT": "80",
        "APP_SERVICE_PORT_HTTP": "80",
        "APP_PORT": "tcp://10.0.0.1:80",
        "APP_PORT_80_TCP": "tcp://10.0.0.1:80",
        "APP_PORT_80_TCP_PROTO": "tcp",
        "APP_PORT_80_TCP_PORT": "80",
        "APP_PORT_80_TCP_ADDR": "10.0.0.1",
        "APP_DB_SERVICE_HOST": "10.0.0.2",
        "APP_DB_PORT": "udp://10.0.0.2:53",
        "APP_DB_PORT_53_UDP": "udp://10.0.0.2:53",
        "APP_DB_HOST": "db1",
        "APP_LEVEL": "info",
    }

    assert await load_variables(variables) == {"db": {"host": "db1"}, "level": "info"}


async def test_what_only_looks_like_a_service_is_configuration() -> None:
    variables = {"APP_PORT": "8080", "APP_SERVICE_HOST": "db1", "APP_SERVICE_PORT": "80"}
    own = {"APP_PORT": "8080", "APP_PORT_80_TCP": "tcp://10.0.0.1:80"}

    assert await load_variables(variables) == {"port": 8080, "service": {"host": "db1", "port": 80}}
    assert await load_variables(own) == {"port": 8080}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("False", False),
        ("TRUE", True),
        ("true", True),
        ("yes", "yes"),
        ("1e5", "1e5"),
        ("1.10", "1.10"),
        ("0042", "0042"),
        ("8080", 8080),
        ("1.5", 1.5),
        ("9007199254740992", 9007199254740992),
        ("9007199254740993", "9007199254740993"),
        ("0.1234567890123456789", "0.1234567890123456789"),
        ("null", None),
    ],
)
async def test_a_variable_keeps_its_digits(text: str, value: Any) -> None:
    parsed = (await load_variables({"APP_A": text}))["a"]

    assert (parsed, type(parsed)) == (value, type(value))


async def test_names_may_be_flat_as_well() -> None:
    assert await load_variables({"APP_DEBUG_MODE": "true"}, flat_names=True) == {
        "debug": {"mode": True},
        "debug_mode": True,
    }


async def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)

    with pytest.raises(BadConfig, match="APP_P_FILE names cannot be read: it is not a regular"):
        await load_variables({"APP_P_FILE": str(pipe)}, secret_files=True)
    with pytest.raises(Exception, match="cannot be read: it is not a regular file"):
        await FileConfigSource(pipe).load_config()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${NONE:-localhost}", "localhost"),
        ("${EMPTY:-localhost}", "localhost"),
        ("${EMPTY:localhost}", ""),
        ("${NONE:-}", ""),
        ("${HOST:-localhost}", "db1"),
        ("${ HOST }", "db1"),
        ("${ NONE : localhost }", "localhost"),
        ("${NONE:${HOST}}", "db1"),
        ("${NONE:${ALSO_NONE:${PORT}}}", 5432),
        ("${NONE:-${ALSO_NONE:-8080}}", 8080),
        ("http://${NONE:${HOST}}:${NONE:${PORT}}/", "http://db1:5432/"),
        ("${NONE:$${HOST}}", "${HOST}"),
        ('${NONE:{"a": [1]}}', {"a": [1]}),
        ("${EXPONENT}", "1e5"),
        ("${VERSION}", "1.10"),
        ("${NONE:1.10}", "1.10"),
        ("${ZEROS}", "0042"),
        ("${LARGE}", "9007199254740993"),
        ("${PORT}", 5432),
        ("${NONE:8080}", 8080),
    ],
)
def test_references_are_nested_spaced_and_typed_without_losing_digits(
    text: str, value: Any
) -> None:
    assert expand_tree({"a": text}, KNOWN) == {"a": value}


def test_a_missing_variable_of_a_default_is_named() -> None:
    with pytest.raises(MissingVariable, match="ALSO_NONE"):
        expand_tree({"a": "${NONE:${ALSO_NONE}}"}, {})
    assert expand_tree({"a": "${HOST:${ALSO_NONE}}"}, KNOWN) == {"a": "db1"}


def test_references_too_deep_are_refused() -> None:
    with pytest.raises(BadConfig, match="inside each other"):
        expand_tree({"a": "${A:" * 500 + "}" * 500}, {})


async def test_toml_is_read(tmp_path: Path) -> None:
    file = tmp_path / "app.toml"
    file.write_text('since = 2020-05-17\n[db]\nhost = "${HOST}"\nports = [1, 2]\n')

    assert await FileConfigSource(file, environment=KNOWN).load_config() == {
        "since": "2020-05-17",
        "db": {"host": "db1", "ports": [1, 2]},
    }


@pytest.mark.parametrize("name", [".env", "shop.env"])
async def test_a_file_of_variables_is_read_as_variables_are(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DOTENV)
    source = FileConfigSource(tmp_path / name, environment=KNOWN)

    assert await source.load_config() == {
        "db": {"host": "db1", "pool_size": 5},
        "password": 'a #"$b ${HOST}',
        "text": "007",
        "lines": "a\nb",
        "debug": False,
        "version": "1.10",
        "url": "http://x/#y",
        "empty": "",
    }


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.toml", b"a = ", "not TOML"),
        ("a.toml", b"a = inf", "not finite"),
        ("a.env", b"A=1\nno line\n", "line 2"),
        ("a.env", b"A=1\na=2\n", "line 2: A and a both set a"),
        ("a.env", b"A=1\nA_B=2\n", "line 2: A_B"),
    ],
)
async def test_broken_toml_and_env_files_are_refused(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(BadConfig, match=reason):
        await FileConfigSource(tmp_path / name).load_config()


async def test_an_edit_of_the_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "app.yaml"
    file.write_text("a: 1\n")
    source = FileConfigSource(file)
    await source.load_config()
    before = file.stat()

    file.write_text("a: 2\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert await source.is_modified()
