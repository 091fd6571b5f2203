"""The port for the shared cache, whose entries may vanish at any time.

Adapters: `redis` and `absent`. No call but `ping` raises, and each ends within 50 ms: a server that
is unavailable, frozen, full or refuses, or a key of another type, is a miss or a value not kept.
"""

from collections.abc import Sequence
from typing import Protocol


class Cache(Protocol):
    @property
    def is_usable(self) -> bool:
        """Whether asking makes sense now; when it does not, nothing need be prepared for it."""
        ...

    async def get(self, key: str) -> bytes | None:
        """Return what was put under `key`, None where there is nothing (any more)."""
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Keep `value`, which never changes under this key, for some days."""
        ...

    async def drop(self, keys: Sequence[str]) -> bool:
        """Forget `keys`, of which there is at least one; tell whether they are certainly gone."""
        ...

    async def get_newest(self, key: str) -> bytes | None:
        """Return the value of the highest version that was put under `key`."""
        ...

    async def put_newest(self, key: str, version: int, value: bytes) -> None:
        """Keep `value` for some days unless a higher version is kept under `key`."""
        ...

    async def ping(self) -> None:
        """Return if the cache answers, raise Unavailable if not."""
        ...
