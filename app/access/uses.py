"""When tokens were last used, told to the store in the background."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

from app.access.known import KnownTokens
from app.access.port import TokenStore

FLUSH_SECONDS: Final = 2.0
# A token that is always in use is written once in so long by each replica.
_NOT_AGAIN: Final = timedelta(seconds=60)


class LastUses:
    def __init__(self, store: TokenStore, known: KnownTokens) -> None:
        self._store = store
        self._known = known
        self._pending: dict[str, datetime] = {}
        self._told: dict[str, datetime] = {}

    async def flush(self) -> None:
        """Tell the store what is due; raises TokenStoreUnavailable and keeps it then."""
        self._pending |= self._known.drained()
        due = {
            token_id: at
            for token_id, at in self._pending.items()
            if token_id not in self._told or at - self._told[token_id] >= _NOT_AGAIN
        }
        if due:
            await self._store.used(due)
            self._told |= due
            for token_id in due:
                del self._pending[token_id]

    async def keep(self) -> None:
        """Flush for ever."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()
