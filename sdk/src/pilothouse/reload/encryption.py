"""Encrypted values in a source: `{"$encrypted": "v1.…"}`, AES-256-GCM."""

import base64
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pilothouse.reload.errors import BadConfig, Undecryptable
from pilothouse_core.keys import join_key
from pilothouse_core.strict_json import BadJson, loads

ENCRYPTED = "$encrypted"
_VERSION = "v1."
_KEY_BYTES = 32
_NONCE_BYTES = 12
_CONTAINERS = frozenset({dict, list})
# Another program may use the same key: its ciphertexts must not be read as configurations.
_PURPOSE = b"pilothouse configuration value 1"


def new_key() -> str:
    """Return a new random key as text, for a file or a secret store."""
    return base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)).decode()


def read_key(key: bytes | str) -> bytes:
    """Return the 32 bytes of a key, given as such, in base64, or as hexadecimal digits.

    Raises ValueError.
    """
    if isinstance(key, bytes) and len(key) == _KEY_BYTES:
        return key
    text = (key.decode(errors="replace") if isinstance(key, bytes) else key).strip()
    try:
        if len(text) == 2 * _KEY_BYTES:
            return bytes.fromhex(text)
        decoded = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except ValueError:
        decoded = b""
    if len(decoded) != _KEY_BYTES:
        raise ValueError("a key is 32 bytes, also in base64 or as 64 hexadecimal digits")
    return decoded


def key_from_file(path: str | os.PathLike[str]) -> bytes:
    """Return the key in a file. Raises OSError and ValueError."""
    return read_key(Path(path).read_bytes())


def encrypt_value(value: Any, key: bytes | str) -> dict[str, str]:
    """Return the encrypted form of `value`, a JSON value or a whole section, for a source."""
    nonce = os.urandom(_NONCE_BYTES)
    plain = json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    sealed = nonce + _cipher(read_key(key)).encrypt(nonce, plain, _PURPOSE)
    return {ENCRYPTED: _VERSION + base64.urlsafe_b64encode(sealed).decode()}


def decrypt_value(value: Mapping[str, Any], keys: Sequence[bytes]) -> Any:
    """Return the value that `encrypt_value` encrypted. Raises Undecryptable and BadConfig."""
    sealed = _ciphertext(value)
    if not keys:
        raise Undecryptable("is encrypted, and no key was given")
    for key in keys:
        try:
            plain = _cipher(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _PURPOSE)
        except _invalid_tag():
            continue
        try:
            return loads(plain)
        except BadJson as error:
            raise BadConfig(f"is encrypted, and not JSON when decrypted: {error.reason}") from None
    raise Undecryptable("is encrypted with another key, or was tampered with")


def _ciphertext(value: Mapping[str, Any]) -> bytes:
    text = value[ENCRYPTED]
    if len(value) > 1 or not isinstance(text, str) or not text.startswith(_VERSION):
        raise BadConfig(
            f"is not an encrypted value: {ENCRYPTED} is the only member, with a text from v1."
        )
    try:
        sealed = base64.urlsafe_b64decode(text[len(_VERSION) :])
    except ValueError:
        sealed = b""
    if len(sealed) <= _NONCE_BYTES:
        raise BadConfig("is an encrypted value that was cut off")
    return sealed


def decrypt_tree(
    tree: Mapping[str, Any], keys: Sequence[bytes], path: str = ""
) -> Mapping[str, Any]:
    """Return the tree with every value decrypted; parts without encrypted values are shared.

    Raises Undecryptable and BadConfig, which name the path.
    """
    result: dict[str, Any] | None = None
    for name, value in tree.items():
        if isinstance(value, (dict, list)) and _may_hold(value):
            new = _decrypt_value(value, keys, join_key(path, name))
            if new is not value:
                result = dict(tree) if result is None else result
                result[name] = new
    return tree if result is None else result


def _may_hold(value: Any) -> bool:
    """Tell whether an encrypted value may be in it: most sections and lists only have leaves."""
    if isinstance(value, list):
        return not _CONTAINERS.isdisjoint(map(type, value))
    return ENCRYPTED in value or not _CONTAINERS.isdisjoint(map(type, value.values()))


def _decrypt_value(value: Any, keys: Sequence[bytes], path: str) -> Any:
    if isinstance(value, list):
        items = [_decrypt_value(item, keys, path) for item in value]
        is_same = all(new is item for new, item in zip(items, value, strict=True))
        return value if is_same else items
    if not isinstance(value, dict):
        return value
    if ENCRYPTED not in value:
        return decrypt_tree(value, keys, path)
    try:
        return decrypt_value(value, keys)
    except BadConfig as error:
        raise type(error)(f"{path} {error}") from None


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise Undecryptable(
            "needs the package cryptography: pip install 'pilothouse-client[encryption]'"
        ) from error
    return AESGCM(key)


def _invalid_tag() -> type[Exception]:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra

    return InvalidTag
