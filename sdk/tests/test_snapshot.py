import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.errors import SnapshotRefused
from pilothouse.snapshot import Snapshot
from tests.trials import trials

OWNER = {"environment": "production", "service_name": "orders"}
PARTS: dict[str, Any] = {"configuration": {"db": {"host": "é"}}, "flags": [1, 2.5, None]}
KEY = bytes(range(32))
KEYS = pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])


@KEYS
def test_what_was_written_is_read(tmp_path: Path, key: bytes | None) -> None:
    snapshot = Snapshot(tmp_path / "deep" / "file", OWNER, key)

    assert snapshot.read() is None
    snapshot.write({"old": 1})
    snapshot.write(PARTS)

    assert snapshot.read() == PARTS
    assert stat.S_IMODE(snapshot.path.stat().st_mode) == 0o600
    assert [path.name for path in snapshot.path.parent.iterdir()] == ["file"]


@KEYS
def test_a_file_is_refused_wherever_it_ends_and_whatever_byte_is_another(
    tmp_path: Path, key: bytes | None
) -> None:
    snapshot = Snapshot(tmp_path / "file", OWNER, key)
    snapshot.write(PARTS)
    whole = snapshot.path.read_bytes()

    for position in range(len(whole)):
        snapshot.path.write_bytes(whole[:position])
        with pytest.raises(SnapshotRefused):
            snapshot.read()
        other = bytes([whole[position] ^ 1])
        snapshot.path.write_bytes(whole[:position] + other + whole[position + 1 :])
        with pytest.raises(SnapshotRefused):
            snapshot.read()


@settings(max_examples=trials(50))
@given(content=st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_nonsense_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    snapshot = Snapshot(tmp_path_factory.getbasetemp() / "nonsense", OWNER)
    snapshot.path.write_bytes(content)

    with pytest.raises(SnapshotRefused):
        snapshot.read()


def test_a_file_of_another_service_is_refused(tmp_path: Path) -> None:
    Snapshot(tmp_path / "file", {**OWNER, "service_name": "other"}).write(PARTS)

    with pytest.raises(SnapshotRefused, match="another"):
        Snapshot(tmp_path / "file", OWNER).read()


def test_only_the_key_it_was_written_with_opens_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    Snapshot(path, OWNER, KEY).write({"password": "hunter2"})

    assert b"hunter2" not in path.read_bytes()
    with pytest.raises(SnapshotRefused, match="no key"):
        Snapshot(path, OWNER).read()
    with pytest.raises(SnapshotRefused, match="does not fit"):
        Snapshot(path, OWNER, bytes(32)).read()
    with pytest.raises(ValueError, match="32 bytes"):
        Snapshot(path, OWNER, b"short")


def test_a_plain_file_is_refused_where_an_encrypted_one_is_meant(tmp_path: Path) -> None:
    """Otherwise whoever can write the folder decides what is configured."""
    Snapshot(tmp_path / "file", OWNER).write(PARTS)

    with pytest.raises(SnapshotRefused, match="not encrypted"):
        Snapshot(tmp_path / "file", OWNER, KEY).read()
