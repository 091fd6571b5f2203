"""The installation's root secret (the pepper), and the keys derived from it."""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

SHORTEST: Final = 32  # characters
FILE: Final = "pepper.key"
TOKENS: Final = "tokens"  # the purpose of the key that digests them
_SALT: Final = b"pilothouse"
_BYTES: Final = 32


class RootSecretUnusable(RuntimeError):
    """The pepper cannot be read or is too short; the service does not start."""


def load_root_secret(setting: str | None, folder: Path) -> bytes:
    """Return the pepper of the settings, else of a 0600 file in `folder`, created if missing.

    Raises PepperUnusable.
    """
    pepper = setting.encode() if setting is not None else _stored_secret(folder)
    if len(pepper) < SHORTEST:
        raise RootSecretUnusable(f"the pepper has fewer than {SHORTEST} characters")
    return pepper


def derive_key(pepper: bytes, purpose: str) -> bytes:
    """Return the 32-byte key for one purpose; keys of different purposes are independent.

    HKDF with SHA-256 (RFC 5869), of which the first block is enough.
    """
    extracted = hmac.digest(_SALT, pepper, hashlib.sha256)
    return hmac.digest(extracted, purpose.encode() + b"\x01", hashlib.sha256)


def _stored_secret(folder: Path) -> bytes:
    file = folder / FILE
    try:
        if not file.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _create_file(file)
        return file.read_bytes().strip()
    except OSError as failure:
        raise RootSecretUnusable(f"{str(file)!r} can be neither read nor created") from failure


def _create_file(file: Path) -> None:
    """Create the file atomically; if several processes do so at once, the first one wins."""
    draft = file.with_name(f"{FILE}.{secrets.token_hex(8)}")
    made = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(made, "wb") as opened:
            opened.write(secrets.token_hex(_BYTES).encode() + b"\n")
            opened.flush()
            os.fsync(opened.fileno())
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink()
