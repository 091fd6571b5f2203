"""Documents in this process's SQLite file, secrets sealed by AES-256-GCM under a key file."""

import base64
import hashlib
import hmac
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.configs.errors import SecretUnreadable, StoreUnavailable, VersionMissing, VersionTaken
from app.configs.model import DocumentId, document_at
from app.configs.store.port import Head, Sealed
from app.sqlite.calls import StateCalls
from app.sqlite.state import SQLiteState
from app.workers import in_slices

_SCHEME = "aes256-gcm"
_KEY_BYTES = 32
_NONCE_BYTES = 12


class EmbeddedConfigStore:
    def __init__(self, state: SQLiteState, *, max_versions: int) -> None:
        self._calls = StateCalls(state, "the documents", StoreUnavailable)
        self._max_versions = max_versions

    async def read(self, document: DocumentId, version: int) -> str | None:
        def work(connection: sqlite3.Connection) -> str | None:
            row = connection.execute(
                "SELECT body FROM versions WHERE doc = ? AND version = ?", (document.path, version)
            ).fetchone()
            return None if row is None else str(row[0])

        text = await self._calls.read(work)
        if text is None:
            raise VersionMissing("no such version")
        return text

    async def write(self, document: DocumentId, text: str, *, base: int) -> None:
        def insert(connection: sqlite3.Connection) -> None:
            if _newest(connection, document) != base:
                raise VersionTaken("the newest version is another")
            connection.execute(
                "INSERT INTO versions (doc, version, body) VALUES (?, ?, ?)",
                (document.path, base + 1, text),
            )
            connection.execute(
                "DELETE FROM versions WHERE doc = ? AND version <= ?",
                (document.path, base + 1 - self._max_versions),
            )

        await self._calls.write(insert)

    async def head(self, document: DocumentId) -> Head:
        newest = await self._calls.read(lambda connection: _newest(connection, document))
        return Head(newest, readable=True)

    async def documents(self) -> Sequence[DocumentId]:
        def work(connection: sqlite3.Connection) -> list[str]:
            return [str(row[0]) for row in connection.execute("SELECT DISTINCT doc FROM versions")]

        paths = await self._calls.read(work)
        return [document for path in paths if (document := document_at(path)) is not None]

    async def ping(self) -> None:
        await self._calls.read(lambda connection: connection.execute("SELECT 1").fetchone())


def _newest(connection: sqlite3.Connection, document: DocumentId) -> int:
    row = connection.execute(
        "SELECT max(version) FROM versions WHERE doc = ?", (document.path,)
    ).fetchone()
    return int(row[0] or 0)


class EmbeddedCipher:
    """Keys are lines of one 0600 file, oldest first; the newest seals, all of them open."""

    def __init__(self, key_file: Path) -> None:
        self._file = key_file
        self._keys = _read_keys(key_file) or [_add_key(key_file)]

    def rotate(self) -> None:
        """Seal with a new key from now on."""
        self._keys.append(_add_key(self._file))

    async def seal(self, environment: str, items: Sequence[tuple[str, str]]) -> Sequence[Sealed]:
        def seal_one(item: tuple[str, str]) -> Sealed:
            context, plain = item
            fingerprint = self._fingerprint(environment, f"{context}\0{plain}")
            return Sealed(self._encrypt(environment, context, plain), fingerprint)

        return await in_slices(items, seal_one)

    def _encrypt(self, environment: str, context: str, plain: str) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        bound = f"{environment}\0{context}".encode()
        sealed = AESGCM(self._keys[-1]).encrypt(nonce, plain.encode(), bound)
        return f"{_SCHEME}:v{len(self._keys)}:{base64.b64encode(nonce + sealed).decode()}"

    async def open(self, environment: str, items: Sequence[tuple[str, str]]) -> Sequence[str]:
        return await in_slices(items, lambda item: self._decrypt(environment, *item))

    def _decrypt(self, environment: str, context: str, text: str) -> str:
        try:
            number, raw = _parts(text)
            key = self._keys[number - 1]
            bound = f"{environment}\0{context}".encode()
            return AESGCM(key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], bound).decode()
        except (ValueError, IndexError, InvalidTag) as error:
            raise SecretUnreadable("no key of this installation opens the secret") from error

    async def fingerprint(self, environment: str, text: str) -> str:
        return self._fingerprint(environment, text)

    def _fingerprint(self, environment: str, text: str) -> str:
        version = len(self._keys)
        message = f"{environment}\0{text}".encode()
        mark = hmac.new(_derive_key(self._keys[-1]), message, hashlib.sha256).digest()
        return f"hmac:v{version}:{base64.b64encode(mark).decode()}"


def _parts(text: str) -> tuple[int, bytes]:
    """Return the number of the key and what it sealed."""
    scheme, version, encoded = text.split(":")
    number = int(version.removeprefix("v"))
    if scheme != _SCHEME or number < 1:
        raise ValueError("not sealed by this cipher")
    return number, base64.b64decode(encoded)


def _derive_key(key: bytes) -> bytes:
    """Another key for fingerprints: one key should not serve two algorithms."""
    return hmac.new(key, b"fingerprint", hashlib.sha256).digest()


def _read_keys(file: Path) -> list[bytes]:
    if not file.exists():
        return []
    return [base64.b64decode(line) for line in file.read_text().splitlines() if line]


def _add_key(file: Path) -> bytes:
    """Append a new key durably: a ciphertext must never outlive its key."""
    key = os.urandom(_KEY_BYTES)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as opened:
        opened.write(base64.b64encode(key) + b"\n")
        opened.flush()
        os.fsync(opened.fileno())
    folder = os.open(file.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    return key
