"""Current documents in the cache that all replicas share, as everybody may see them.

What comes back is hollow: where a secret stood is a mask, never its ciphertext or fingerprint.
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
from app.configs.secrets import masked
from pilothouse_core.trees import SECRET, is_secret, leaves

_PUTS_AT_ONCE = 32
_DROPS_AT_ONCE = 1000
_AGAIN_SECONDS = 1.0


class CachedDocuments:
    def __init__(self, cache: Cache, *, max_versions: int) -> None:
        self._cache = cache
        self._max_versions = max_versions
        self._puts: set[asyncio.Task[None]] = set()
        self._drops: set[asyncio.Task[None]] = set()

    async def get(self, document: DocumentId, pointer: Pointer) -> Body | None:
        """Return the current version, hollow; None if it is not there or is anything else."""
        entry = await self._cache.get(_key(document, pointer.version))
        return unpacked(entry, document, pointer) if entry is not None else None

    def keep(self, document: DocumentId, pointer: Pointer, body: Body) -> None:
        """Put the current version there, later; what is too much at once is left out."""
        if self._cache.is_usable and len(self._puts) < _PUTS_AT_ONCE:
            _begin(self._puts, self._put(document, pointer, body))

    async def _put(self, document: DocumentId, pointer: Pointer, body: Body) -> None:
        entry = packed(document, pointer, body)
        if entry is not None:
            await self._cache.put(_key(document, body.version), entry)

    def drop_before(self, document: DocumentId, body: Body) -> None:
        """Take earlier versions away if `body` seals anything: they may hold it as plain text."""
        oldest = max(1, body.version - self._max_versions)
        keys = [_key(document, version) for version in range(oldest, body.version)]
        if keys and _seals(body) and len(self._drops) < _DROPS_AT_ONCE:
            _begin(self._drops, self._drop(keys))

    async def _drop(self, keys: Sequence[str]) -> None:
        # Twice: a replica that had not heard of the change yet may have put one there meanwhile.
        # And again and again while the cache is away.
        dropped = 0
        while dropped < 2:  # noqa: PLR2004 - as said
            dropped += await self._cache.drop(keys)
            await asyncio.sleep(_AGAIN_SECONDS)


def _begin(under_way: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    under_way.add(task)
    task.add_done_callback(under_way.discard)


def _key(document: DocumentId, version: int) -> str:
    user = f"{document.user}:" if document.user is not None else ""
    return f"config:{document.environment}:{document.service}:{user}{version}"


def packed(document: DocumentId, pointer: Pointer, body: Body) -> bytes | None:
    """Write the version that `pointer` names for the cache, None if it must not go there."""
    hollow = masked(body.data, fingerprints=False) if body.data else {}
    try:
        if is_secret(body.data) or _hides_a_secret(hollow):
            return None
        text = encode(replace(body, data=hollow)).encode()
    except (ValueError, RecursionError):  # written past this service: no JSON, or no end to it
        return None
    return _head(document, pointer, text) + text


def unpacked(entry: bytes, document: DocumentId, pointer: Pointer) -> Body | None:
    """Read what `packed` wrote for this very version, None if it is anything else."""
    head, _, text = entry.partition(b"\n")
    if head + b"\n" != _head(document, pointer, text):
        return None
    try:
        body = decode(text.decode())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return replace(body, hollow=True) if body.version == pointer.version else None


def _head(document: DocumentId, pointer: Pointer, text: bytes) -> bytes:
    """Bind a text to its place in the log, not only to a number: logs can be made anew."""
    at = pointer.at.astimezone(UTC).isoformat()
    name = f"{document.path} {pointer.version} {pointer.revision} {at} ".encode()
    return name + blake2b(name + text, digest_size=16).hexdigest().encode() + b"\n"


def _hides_a_secret(value: Any, *, in_list: bool = False) -> bool:
    """Tell whether a list holds what looks like a secret: no mask reaches into lists."""
    if isinstance(value, dict):
        found = in_list and SECRET in value
        return found or any(_hides_a_secret(inner, in_list=in_list) for inner in value.values())
    if isinstance(value, list):
        return any(_hides_a_secret(inner, in_list=True) for inner in value)
    return False


def _seals(body: Body) -> bool:
    """Tell whether a secret was set in this very version."""
    for key, value in leaves(body.data):
        fact = body.keys.get(key)
        if is_secret(value) and (fact is None or fact.version == body.version):
            return True
    return False
