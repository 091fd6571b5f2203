"""Records in the background when tokens were last used."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

from app.access.tokens.cache import TokenCache
from app.access.tokens.port import TokenStore

FLUSH_SECONDS: Final = 2.0
# Each replica writes a token that is always in use once in this time.
_MIN_INTERVAL: Final = timedelta(seconds=60)


class LastUsedRecorder:
    def __init__(self, store: TokenStore, cache: TokenCache) -> None:
        self._store = store
        self._cache = cache
        self._pending: dict[str, datetime] = {}
        self._written: dict[str, datetime] = {}

    async def flush(self) -> None:
        """Store the uses that are due; raises TokenStoreUnavailable, and retries them next time."""
        self._pending |= self._cache.pop_last_uses()
        due = {
            token_id: at
            for token_id, at in self._pending.items()
            if token_id not in self._written or at - self._written[token_id] >= _MIN_INTERVAL
        }
        if due:
            await self._store.record_uses(due)
            self._written |= due
            for token_id in due:
                del self._pending[token_id]

    async def run(self) -> None:
        """Flush periodically, without end."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()
