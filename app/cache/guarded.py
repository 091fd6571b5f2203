"""A cache with signed entries, which only this installation can write."""

import hmac
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from app.cache.port import Cache

PURPOSE: Final = "cache"  # of the key
_SIGNATURE_BYTES: Final = 32


class GuardedCache:
    """Treats entries without a valid signature as missing.

    So are entries of releases before signatures. A replayed earlier entry of the same key is not
    detected.
    """

    def __init__(self, cache: Cache, key: bytes) -> None:
        self._cache = cache
        self._key = key

    @property
    def is_usable(self) -> bool:
        return self._cache.is_usable

    async def get(self, key: str) -> bytes | None:
        return self._verified_value(key, await self._cache.get(key))

    async def put(self, key: str, value: bytes) -> None:
        await self._cache.put(key, self._signature(key, value) + value)

    async def drop(self, keys: Sequence[str]) -> bool:
        return await self._cache.drop(keys)

    async def get_newest(self, key: str) -> bytes | None:
        return self._verified_value(key, await self._cache.get_newest(key))

    async def put_newest(self, key: str, version: int, value: bytes) -> None:
        await self._cache.put_newest(key, version, self._signature(key, value) + value)

    async def ping(self) -> None:
        await self._cache.ping()

    def _verified_value(self, key: str, entry: bytes | None) -> bytes | None:
        if entry is None:
            return None
        signature, value = entry[:_SIGNATURE_BYTES], entry[_SIGNATURE_BYTES:]
        return value if hmac.compare_digest(signature, self._signature(key, value)) else None

    def _signature(self, key: str, value: bytes) -> bytes:
        # Keyed BLAKE2b is a MAC. The name is in it, with its length: no entry is good elsewhere.
        name = key.encode()
        made = blake2b(b"%d:%b" % (len(name), name), digest_size=_SIGNATURE_BYTES, key=self._key)
        made.update(value)
        return made.digest()
