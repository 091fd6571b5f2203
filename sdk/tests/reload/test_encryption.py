"""Values that lie encrypted in a source."""

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.reload import (
    BadConfig,
    ConfigManager,
    FileConfigSource,
    StartFailed,
    Undecryptable,
    encrypt_value,
    key_from_file,
    new_key,
)
from pilothouse.reload.encryption import decrypt_tree, read_key

KEY, OTHER = read_key(new_key()), read_key(new_key())


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("ab"), inner),
        max_leaves=5,
    )
)
def test_what_is_encrypted_is_opened_again(value: Any) -> None:
    tree = {"a": encrypt_value(value, KEY), "b": [encrypt_value(value, OTHER)], "c": 1}

    assert decrypt_tree(tree, [OTHER, KEY]) == {"a": value, "b": [value], "c": 1}


def test_the_same_value_never_looks_the_same() -> None:
    assert encrypt_value("x", KEY) != encrypt_value("x", KEY)


def test_a_key_is_written_in_three_ways(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY.hex() + "\n")

    assert key_from_file(tmp_path / "key") == KEY
    assert read_key(base64.b64encode(KEY).decode()) == KEY
    assert read_key(base64.urlsafe_b64encode(KEY)) == KEY
    for bad in ("", "short", b"31 bytes are one too few, sorry", "z" * 64):
        with pytest.raises(ValueError, match="32 bytes"):
            read_key(bad)


def test_what_cannot_be_opened_names_its_place_and_no_value() -> None:
    sealed = encrypt_value("hunter2", KEY)["$encrypted"]
    tampered = sealed[:-3] + ("AA=" if not sealed.endswith("AA=") else "BB=")
    for text, keys in ((sealed, [OTHER]), (sealed, []), (tampered, [KEY]), ("v1.AAAA", [KEY])):
        with pytest.raises(BadConfig, match=r"^db\.password is ") as refused:
            decrypt_tree({"db": {"password": {"$encrypted": text}}}, keys)
        assert "hunter2" not in str(refused.value)
    for odd in ({"$encrypted": sealed, "more": 1}, {"$encrypted": 1}, {"$encrypted": "v9.x"}):
        with pytest.raises(BadConfig, match="is not an encrypted value"):
            decrypt_tree({"a": odd}, [KEY])


def test_another_key_is_an_error_of_its_own_kind() -> None:
    with pytest.raises(Undecryptable):
        decrypt_tree({"a": encrypt_value(1, KEY)}, [OTHER])


async def test_a_manager_opens_sections_with_its_key(tmp_path: Path) -> None:
    file = tmp_path / "app.json"
    source = FileConfigSource(file)
    await source.save_config({"db": encrypt_value({"user": "u", "password": "p"}, KEY)})
    opening, closed = ConfigManager(encryption_key=KEY), ConfigManager()
    opening.add_source(source)
    closed.add_source(FileConfigSource(file))

    async with opening:
        assert opening.get_config("db.password") == "p"
    with pytest.raises(StartFailed, match="no key was given"):
        await closed.start()
