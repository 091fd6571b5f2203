"""Environment variables as a source, and a manager that is set up from them."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from pilothouse.reload import (
    BadConfig,
    EnvironmentConfigSource,
    NotInitialized,
    encrypt_value,
    get_config,
    get_config_manager,
    get_config_section,
    initialize_config_manager,
    initialize_config_manager_sync,
    manager_from_environment,
    new_key,
    shutdown_config_manager,
    shutdown_config_manager_sync,
)


async def load_variables(variables: dict[str, str], **options: Any) -> dict[str, Any]:
    source = EnvironmentConfigSource("APP", environment=variables, **options)
    return dict(await source.load_config())


async def test_underscores_nest_and_two_of_them_keep_names_whole() -> None:
    variables = {
        "APP_DB_HOST": "db1",
        "APP_DB__MAX_SIZE": "10",
        "APP__LOG_LEVEL": "info",
        "APP_LIST": "[1, 2]",
        "APP_TEXT": '"007"',
        "APP_POOL": '{"min": 1}',
        "APP_POOL_MAX": "2",
        "APPLE": "no",
        "OTHER_APP_X": "no",
    }

    assert await load_variables(variables) == {
        "db": {"host": "db1", "max_size": 10},
        "log_level": "info",
        "list": [1, 2],
        "text": "007",
        "pool": {"min": 1, "max": 2},
    }


@pytest.mark.parametrize(
    ("separator", "expected"),
    [("_", {"a": {"b": {"c": 1}}}), ("__", {"a_b_c": 1})],
)
async def test_the_separator_may_be_chosen(
    separator: Literal["_", "__"], expected: dict[str, Any]
) -> None:
    assert await load_variables({"APP_A_B_C": "1"}, separator=separator) == expected


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"APP_DB": "1", "APP_DB_HOST": "x"}, "APP_DB_HOST"),
        ({"APP_A_B": "1", "APP_A__B": "2"}, "APP_A_B and APP_A__B both set a.b"),
        ({"APP_A_": "1"}, "APP_A_"),
        ({"APP_P_FILE": "/nowhere"}, "APP_P_FILE"),
        ({"APP_P_FILE": "/nowhere", "APP_P": "x"}, "APP_P and APP_P_FILE"),
    ],
)
async def test_what_is_ambiguous_names_the_variable(variables: dict[str, str], named: str) -> None:
    with pytest.raises(BadConfig, match=named):
        await load_variables(variables, secret_files=True)


async def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("12345\n")
    variables = {"APP_DB_PASSWORD_FILE": str(tmp_path / "secret")}

    assert await load_variables(variables, secret_files=True) == {"db": {"password": "12345"}}
    assert await load_variables(variables) == {
        "db": {"password": {"file": str(tmp_path / "secret")}}
    }


async def test_a_changed_environment_is_a_modification() -> None:
    variables = {"APP_A": "1"}
    source = EnvironmentConfigSource("APP", environment=variables)
    await source.load_config()

    assert not await source.is_modified()
    variables["APP_A"] = "2"
    assert await source.is_modified()
    with pytest.raises(ValueError, match="a prefix is needed"):
        EnvironmentConfigSource("_")


async def test_a_process_is_set_up_from_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, key = tmp_path / "config", new_key()
    directory.mkdir()
    sealed = encrypt_value("sesame", key)
    (directory / "10-base.yaml").write_text("a: 1\nb: 1\nc: ${FROM_VARIABLE}\n")
    (directory / "20-more.json").write_text(json.dumps({"b": 2, "s": sealed}))
    (directory / "readme.txt").write_text("not a configuration")
    (tmp_path / "key").write_text(key)
    (tmp_path / "secret").write_text("p\n")
    for name, value in {
        "CONFIG_DIR": str(directory),
        "APP_CONFIG_WATCH": "false",
        "APP_CONFIG_KEY_FILE": str(tmp_path / "key"),
        "APP_DB_PASSWORD_FILE": str(tmp_path / "secret"),
        "FROM_VARIABLE": "3",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NotInitialized):
        get_config("a")

    manager = await initialize_config_manager()
    section = get_config_section()
    is_watched = [source.is_watched for source in manager.get_sources()]
    assert get_config_manager() is manager
    await shutdown_config_manager()

    assert section == {
        "a": 1,
        "b": 2,
        "c": 3,
        "s": "sesame",
        "db": {"password": "p"},
        "db_password": "p",
    }
    assert is_watched == [False, False]
    with pytest.raises(NotInitialized):
        get_config_manager()


def test_a_script_is_set_up_without_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_A_B", "1")
    first = initialize_config_manager_sync()
    second = initialize_config_manager_sync()

    assert get_config("a.b") == 1
    assert (first.health().is_healthy, second.health().is_healthy) == (False, True)
    shutdown_config_manager_sync()
    shutdown_config_manager_sync()


def test_sources_are_named_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").touch()
    (tmp_path / "token").write_text("t\n")
    known = {
        "CONFIG_DIR": str(tmp_path),
        "APP_CONFIG_SOURCES": f"dir, file:{tmp_path}/b.json, https://h/c?x=1,remote,vault:a/b,"
        "pilothouse,env:X",
        "APP_CONFIG_URL": "https://h/d",
        "VAULT_ADDR": "http://127.0.0.1:8200",
        "VAULT_TOKEN_FILE": str(tmp_path / "token"),
        "PILOTHOUSE_URL": "http://127.0.0.1:8082",
        "PILOTHOUSE_SERVICE": "billing",
    }

    manager = manager_from_environment(known)

    assert [source.name for source in manager.get_sources()] == [
        "environment:X",
        "pilothouse:default/billing",
        "vault:secret/a/b",
        "remote:https://h/d",
        "remote:https://h/c",
        f"file:{tmp_path}/b.json",
        f"dir:{tmp_path}",
    ]


@pytest.mark.parametrize(
    ("known", "named"),
    [
        ({"APP_CONFIG_WATCH": "maybe"}, "APP_CONFIG_WATCH"),
        ({"CONFIG_DIR": "/nowhere"}, "CONFIG_DIR"),
        ({"APP_CONFIG_SOURCES": "ftp://x"}, "APP_CONFIG_SOURCES: 'ftp'"),
        ({"APP_CONFIG_SOURCES": "file:a.ini"}, "APP_CONFIG_SOURCES: file"),
        ({"APP_CONFIG_SOURCES": "env,env"}, "there is a source"),
        ({"APP_CONFIG_SOURCES": "file,env"}, "CONFIG_DIR is not set"),
        ({"APP_CONFIG_SOURCES": "env,remote"}, "APP_CONFIG_URL is not set"),
        ({"APP_CONFIG_SOURCES": "remote", "APP_CONFIG_URL": "x"}, "APP_CONFIG_SOURCES: remote"),
        ({"APP_CONFIG_SOURCES": "pilothouse"}, "PILOTHOUSE_URL is not set"),
        ({"APP_CONFIG_KEY_FILE": "/nowhere"}, "APP_CONFIG_KEY_FILE"),
        (
            {"APP_CONFIG_SOURCES": "vault:a", "VAULT_TOKEN": "x", "VAULT_TOKEN_FILE": "y"},
            "VAULT_TOKEN and VAULT_TOKEN_FILE",
        ),
    ],
)
def test_a_wrong_variable_is_named(known: dict[str, str], named: str) -> None:
    with pytest.raises(BadConfig, match=named):
        manager_from_environment(known)
