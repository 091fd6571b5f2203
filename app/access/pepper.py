"""The pepper: what makes of what is stored nothing that could be guessed at, and keys from it."""

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


class PepperUnusable(RuntimeError):
    """Without a pepper no service starts."""


def pepper_of(setting: str | None, folder: Path) -> bytes:
    """Return the pepper of the settings, else the one of a 0600 file in `folder`, made if missing.

    Raises PepperUnusable.
    """
    pepper = setting.encode() if setting is not None else _kept(folder)
    if len(pepper) < SHORTEST:
        raise PepperUnusable(f"the pepper has fewer than {SHORTEST} characters")
    return pepper


def derived(pepper: bytes, purpose: str) -> bytes:
    """Return the 32-byte key for one purpose; no key tells anything about another.

    HKDF with SHA-256 (RFC 5869), of which the first block is enough.
    """
    extracted = hmac.digest(_SALT, pepper, hashlib.sha256)
    return hmac.digest(extracted, purpose.encode() + b"\x01", hashlib.sha256)


def _kept(folder: Path) -> bytes:
    file = folder / FILE
    try:
        if not file.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(file)
        return file.read_bytes().strip()
    except OSError as failure:
        raise PepperUnusable(f"{str(file)!r} can be neither read nor made") from failure


def _make(file: Path) -> None:
    """Make it whole or not at all; of several who make it at once, the first one's stays."""
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
