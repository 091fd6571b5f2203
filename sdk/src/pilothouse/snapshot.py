"""The snapshot on disk, with which a client starts while the service is unavailable.

One line of JSON about the content, then the content: JSON, or AES-256-GCM of it when the caller
gives a key. Only its owner may read the file; it is replaced whole, and refused unless every byte
is as it was written.
"""

import base64
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilothouse.errors import SnapshotRefused

_FORMAT = 1
_NONCE_BYTES = 12
_KEY_BYTES = 32


class Snapshot:
    """One file, for one client: `owner` says whose and how it is read; others are refused.

    With `key` (32 bytes, of the caller) the content is encrypted, and secrets may be in it.
    Raises ValueError for a key of another length, ModuleNotFoundError without the extra
    `pilothouse-client[encryption]`.
    """

    def __init__(
        self, path: str | Path, owner: Mapping[str, str], key: bytes | None = None
    ) -> None:
        self.path = Path(path)
        self._owner = dict(owner)
        self._key = key
        if key is not None:
            _cipher(key)

    @property
    def may_hold_secrets(self) -> bool:
        return self._key is not None

    def write(self, parts: Mapping[str, Any]) -> None:
        """Replace the file, durably. Raises OSError."""
        content = json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()
        facts: dict[str, Any] = {"format": _FORMAT, "owner": self._owner}
        if self._key is not None:
            nonce = secrets.token_bytes(_NONCE_BYTES)
            facts["nonce"] = base64.b64encode(nonce).decode()
            content = _cipher(self._key).encrypt(nonce, content, _associated_data(facts))
        facts["sha256"] = _digest(facts, content)
        self._replace(json.dumps(facts, sort_keys=True).encode() + b"\n" + content)

    def _replace(self, content: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            draft.replace(self.path)
        finally:
            draft.unlink(missing_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def read(self) -> dict[str, Any] | None:
        """Return what was written last, None where there is no file. Raises SnapshotRefused."""
        try:
            first, _, content = self.path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SnapshotRefused(f"{self.path} cannot be read: {error.strerror}") from error
        try:
            facts = json.loads(first)
            written = facts.pop("sha256")
            is_ours = facts["format"] == _FORMAT and facts["owner"] == self._owner
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SnapshotRefused(f"{self.path} is not a snapshot") from error
        if written != _digest(facts, content):
            raise SnapshotRefused(f"{self.path} is truncated or was changed")
        if not is_ours:
            raise SnapshotRefused(f"{self.path} is of another client, or of other options")
        return self._parts(facts, content)

    def _parts(self, facts: Mapping[str, Any], content: bytes) -> dict[str, Any]:
        if ("nonce" in facts) != (self._key is not None):
            state = "encrypted, and no key is given" if "nonce" in facts else "not encrypted"
            raise SnapshotRefused(f"{self.path} is {state}")
        if self._key is not None:
            content = self._decrypt(self._key, facts, content)
        try:
            parts = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise SnapshotRefused(f"{self.path} is not a snapshot") from error
        if not isinstance(parts, dict):
            raise SnapshotRefused(f"{self.path} is not a snapshot")
        return parts

    def _decrypt(self, key: bytes, facts: Mapping[str, Any], content: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra

        try:
            nonce = base64.b64decode(facts["nonce"], validate=True)
            plain: bytes = _cipher(key).decrypt(nonce, content, _associated_data(facts))
        except (InvalidTag, ValueError, TypeError) as error:
            raise SnapshotRefused(f"{self.path} does not fit the key") from error
        return plain


def _cipher(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra

    if len(key) != _KEY_BYTES:
        raise ValueError(f"a key of {_KEY_BYTES} bytes is needed")
    return AESGCM(key)


def _associated_data(facts: Mapping[str, Any]) -> bytes:
    """Return what the ciphertext is bound to, so that its facts cannot be exchanged either."""
    return json.dumps(facts, sort_keys=True).encode()


def _digest(facts: Mapping[str, Any], content: bytes) -> str:
    return hashlib.sha256(_associated_data(facts) + b"\n" + content).hexdigest()
