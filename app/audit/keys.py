"""The keys that sign and verify heads of the audit, to detect truncated or rewritten chains."""

import hashlib
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from app.audit.chain import ChainHead
from app.audit.port import SignedHead
from app.hash_chain import epoch_microseconds

FILE: Final = "audit.key"


class SigningKeyUnusable(RuntimeError):
    """The key cannot be read."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    key: Ed25519PrivateKey

    @property
    def public(self) -> Ed25519PublicKey:
        return self.key.public_key()

    def sign(self, head: ChainHead, at: datetime) -> SignedHead:
        signature = self.key.sign(_message(head, at))
        return SignedHead(head.seq, head.hash, at, key_id_of(self.public), signature)


def key_id_of(public: Ed25519PublicKey) -> str:
    """Return the key's id: the first 16 hexadecimal digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def is_signature_valid(signed: SignedHead, keys: Mapping[str, Ed25519PublicKey]) -> bool:
    """Tell whether one of these keys, by id, has signed the head."""
    key = keys.get(signed.key_id)
    if key is None:
        return False
    try:
        key.verify(signed.signature, _message(signed.head, signed.at))
    except InvalidSignature:
        return False
    return True


def _message(head: ChainHead, at: datetime) -> bytes:
    return (
        f"pilothouse audit head\n{head.seq}\n{head.hash.hex()}\n{epoch_microseconds(at)}\n".encode()
    )


def load_signing_key(setting: str | None, folder: Path) -> SigningKey:
    """Read the key of the settings, else of a 0600 file in `folder`, created if missing.

    Raises KeyUnusable.
    """
    file = folder / FILE if setting is None else Path(setting)
    try:
        if setting is None and not file.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _create_file(file)
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as failure:
        raise SigningKeyUnusable(f"no private key can be read from {str(file)!r}") from failure
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningKeyUnusable(f"the key in {str(file)!r} is not an Ed25519 key")
    return SigningKey(key)


def load_public_key(file: Path) -> Ed25519PublicKey:
    """Read a public key in PEM; raises KeyUnusable."""
    try:
        key = load_pem_public_key(file.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as failure:
        raise SigningKeyUnusable(f"no public key can be read from {str(file)!r}") from failure
    if not isinstance(key, Ed25519PublicKey):
        raise SigningKeyUnusable(f"the key in {str(file)!r} is not an Ed25519 key")
    return key


def public_key_pem(signer: SigningKey) -> str:
    """Return the public key in PEM."""
    return signer.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _create_file(file: Path) -> None:
    """Create the file atomically; if several processes do so at once, the first one wins."""
    text = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    draft = file.with_name(f"{FILE}.{secrets.token_hex(8)}")
    made = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(made, "wb") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink()
