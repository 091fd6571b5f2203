"""The cache adapter without a cache, for when REDIS_HOST is not set."""

from collections.abc import Sequence


class AbsentCache:
    is_usable = False

    async def get(self, key: str) -> bytes | None:  # noqa: ARG002 - it forgets everything
        return None

    async def put(self, key: str, value: bytes) -> None:
        """Forget it at once."""

    async def drop(self, keys: Sequence[str]) -> bool:  # noqa: ARG002 - nothing was ever kept
        return True

    async def get_newest(self, key: str) -> bytes | None:  # noqa: ARG002 - as above
        return None

    async def put_newest(self, key: str, version: int, value: bytes) -> None:
        """Forget it at once."""

    async def ping(self) -> None:
        """Do nothing: there is no server."""
