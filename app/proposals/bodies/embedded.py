"""What proposals set, in this process's own state."""

import sqlite3
from collections.abc import Sequence

from app.configs.errors import StoreUnavailable
from app.proposals.bodies.port import MAX_BODY_BYTES
from app.proposals.errors import BodyMissing, BodyTaken, BodyTooLarge
from app.sqlite.calls import StateCalls
from app.sqlite.state import SQLiteState


class EmbeddedProposalBodies:
    def __init__(self, state: SQLiteState) -> None:
        self._calls = StateCalls(state, "what proposals set", StoreUnavailable)

    async def write(self, name: str, text: str) -> None:
        if (size := len(text.encode())) > MAX_BODY_BYTES:
            raise BodyTooLarge(size, MAX_BODY_BYTES)

        def insert(connection: sqlite3.Connection) -> None:
            try:
                connection.execute("INSERT INTO proposal_bodies VALUES (?, ?)", (name, text))
            except sqlite3.IntegrityError as error:
                raise BodyTaken(name) from error

        await self._calls.write(insert)

    async def read(self, name: str) -> str:
        def work(connection: sqlite3.Connection) -> str:
            row = connection.execute(
                "SELECT body FROM proposal_bodies WHERE name = ?", (name,)
            ).fetchone()
            return "" if row is None else str(row["body"])

        text = await self._calls.read(work)
        if not text:
            raise BodyMissing(name)
        return text

    async def empty(self, name: str) -> None:
        def clear(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE proposal_bodies SET body = '' WHERE name = ?", (name,))

        await self._calls.write(clear)

    async def names(self) -> Sequence[str]:
        def work(connection: sqlite3.Connection) -> list[str]:
            return [
                str(row["name"])
                for row in connection.execute("SELECT name FROM proposal_bodies ORDER BY name")
            ]

        return await self._calls.read(work)
