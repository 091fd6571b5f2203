"""The pepper: from the settings or a file of its own, and the keys derived from it."""

import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.access.root_secret import FILE, RootSecretUnusable, derive_key, load_root_secret

PEPPER = hashlib.sha256(b"pepper").digest()


def test_the_settings_decide(tmp_path: Path) -> None:
    assert load_root_secret("p" * 32, tmp_path) == b"p" * 32
    assert not list(tmp_path.iterdir())


def test_without_a_setting_one_is_made_once_and_for_nobody_else(tmp_path: Path) -> None:
    folder = tmp_path / "data"

    made = load_root_secret(None, folder)

    assert load_root_secret(None, folder) == made
    assert load_root_secret(None, tmp_path / "other") != made
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    assert [file.name for file in folder.iterdir()] == [FILE]


def test_those_who_make_it_at_once_get_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: load_root_secret(None, tmp_path), range(8)))

    assert len(set(made)) == 1


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("short")

    with pytest.raises(RootSecretUnusable, match="fewer than 32"):
        load_root_secret(None, tmp_path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(RootSecretUnusable, match="neither read nor created"):
        load_root_secret(None, tmp_path / "file")


def test_each_purpose_has_its_own_key_as_another_implementation_derives_it() -> None:
    theirs = HKDF(SHA256(), 32, salt=b"pilothouse", info=b"tokens").derive(PEPPER)

    assert derive_key(PEPPER, "tokens") == theirs
    assert derive_key(PEPPER, "audit") != theirs
