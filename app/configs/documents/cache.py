"""Current documents in the shared cache, without their secrets.

Secrets are replaced by masks; ciphertexts and fingerprints never enter the cache.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from datetime import UTC
from hashlib import blake2b
from typing import Any

from app.cache.port import Cache
from app.changes.model import Pointer
from app.configs.model import Body, DocumentId, decode, encode
from app.configs.secrets import MASK, mask_secrets
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.trees import SECRET, is_secret

_PUTS_AT_ONCE = 32
_DROPS_AT_ONCE = 1000
_AGAIN_SECONDS = 1.0


class DocumentCache:
    def __init__(self, cache: Cache, *, max_versions: int) -> None:
        self._cache = cache
        self._max_versions = max_versions
        self._puts: set[asyncio.Task[None]] = set()
        self._drops: set[asyncio.Task[None]] = set()

    async def get(self, document: DocumentId, pointer: Pointer) -> Body | None:
        """Return the current version without secrets; None if there is no valid entry."""
        entry = await self._cache.get(_key(document, pointer.version))
        if entry is None:
            return None
        return await run_apart(len(entry) > LARGE_TEXT, decode_entry, entry, document, pointer)

    def put_later(self, document: DocumentId, pointer: Pointer, body: Body) -> None:
        """Put the current version there, later; what is too much at once is left out."""
        if self._cache.is_usable and len(self._puts) < _PUTS_AT_ONCE:
            _start(self._puts, self._put(document, pointer, body))

    async def _put(self, document: DocumentId, pointer: Pointer, body: Body) -> None:
        entry = await run_apart(body.size > LARGE_TEXT, encode_entry, document, pointer, body)
        if entry is not None:
            await self._cache.put(_key(document, body.version), entry)

    def drop_before(self, document: DocumentId, version: int) -> None:
        """Drop earlier versions, which are not read from here any more.

        They may hold as plain text what is a secret now, or what the store has destroyed.
        """
        oldest = max(1, version - self._max_versions)
        keys = [_key(document, earlier) for earlier in range(oldest, version)]
        if keys and len(self._drops) < _DROPS_AT_ONCE:
            _start(self._drops, self._drop(keys))

    async def _drop(self, keys: Sequence[str]) -> None:
        # Twice: a replica that had not followed the change yet may have put one there since.
        # Repeated while the cache is unavailable.
        dropped = 0
        while dropped < 2:  # noqa: PLR2004 - as said
            dropped += await self._cache.drop(keys)
            await asyncio.sleep(_AGAIN_SECONDS)


def _start(under_way: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    under_way.add(task)
    task.add_done_callback(under_way.discard)


def _key(document: DocumentId, version: int) -> str:
    user = f"{document.user}:" if document.user is not None else ""
    return f"config:{document.environment}:{document.service}:{user}{version}"


def encode_entry(document: DocumentId, pointer: Pointer, body: Body) -> bytes | None:
    """Write the version that `pointer` names for the cache, None if it must not go there."""
    masked_data = mask_secrets(body.data, fingerprints=False) if body.data else {}
    try:
        if is_secret(body.data) or _hides_a_secret(masked_data):
            return None
        text = encode(replace(body, data=masked_data)).encode()
    except (ValueError, RecursionError):  # written past this service: no JSON, or no end to it
        return None
    return _header(document, pointer, text) + text


def decode_entry(entry: bytes, document: DocumentId, pointer: Pointer) -> Body | None:
    """Read what `encode_entry` wrote for this very version, None if it is anything else."""
    head, _, text = entry.partition(b"\n")
    if head + b"\n" != _header(document, pointer, text):
        return None
    try:
        body = decode(text.decode())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return replace(body, without_secrets=True) if body.version == pointer.version else None


def _header(document: DocumentId, pointer: Pointer, text: bytes) -> bytes:
    """Bind a text to its place in the log, not only to a number: a log can be replaced."""
    at = pointer.at.astimezone(UTC).isoformat()
    name = f"{document.path} {pointer.version} {pointer.revision} {at} ".encode()
    return name + blake2b(name + text, digest_size=16).hexdigest().encode() + b"\n"


def _hides_a_secret(value: Any) -> bool:
    """Tell whether anything looks like a secret and is no mask: a write past this service."""
    if isinstance(value, dict):
        if SECRET in value:
            return bool(value != {SECRET: MASK})
        return any(map(_hides_a_secret, value.values()))
    return isinstance(value, list) and any(map(_hides_a_secret, value))
