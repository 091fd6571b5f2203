"""A table of a database as a source, over any driver of DB-API 2.0 (PEP 249)."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import closing
from typing import Any, Literal

from pilothouse.reload.errors import BadConfig, SourceUnavailable
from pilothouse.reload.sources.polling import poll_changes
from pilothouse.reload.validation import Flaw, Rules
from pilothouse_core.strict_json import BadJson, loads
from pilothouse_core.trees import KeysConflict, Tree, leaves, set_in

ParamStyle = Literal["qmark", "numeric", "format", "pyformat"]
_MARKS: dict[str, str] = {"qmark": "?, ?", "numeric": ":1, :2"}
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)?", re.ASCII)


class DatabaseConfigSource:
    """Each row has one value: `path`, a dotted key, and `value`, its JSON text.

        CREATE TABLE configuration (path VARCHAR(256) PRIMARY KEY, value TEXT NOT NULL)

    `connect` opens a connection; each load opens a new one, in a thread. Time-outs are set in
    `connect`. `paramstyle` is that of the driver's module.
    """

    is_remote = True

    kind = "database"

    def __init__(  # noqa: PLR0913 - independent options
        self,
        connect: Callable[[], Any],
        table: str = "configuration",
        *,
        paramstyle: ParamStyle = "qmark",
        priority: int = 200,
        name: str | None = None,
        poll_seconds: float | None = 30.0,
        rules: Rules | None = None,
    ) -> None:
        if not _TABLE.fullmatch(table):
            raise ValueError(f"{table!r} is not the name of a table")
        self.priority = priority
        self.name = name or f"database:{table}"
        self.rules = rules or Rules()
        self._connect = connect
        self._marks = _MARKS.get(paramstyle, "%s, %s")
        self._table = table
        self._poll_seconds = poll_seconds
        self._seen: dict[str, str] | None = None

    async def load_config(self) -> Mapping[str, Any]:
        """Return all rows as a tree.

        Raises SourceUnavailable for every exception of the driver, and BadConfig for a value that
        is not JSON and for keys of which one is the section of the other.
        """
        self._seen = None
        rows = await asyncio.to_thread(self._rows)
        self._seen = rows
        return _tree(rows)

    async def save_config(self, config: Mapping[str, Any]) -> None:
        """Replace all rows in one transaction. Raises SourceUnavailable."""
        rows = [(path, json.dumps(value, allow_nan=False)) for path, value in leaves(config)]
        await asyncio.to_thread(self._replace, rows)

    async def is_modified(self) -> bool:
        """Tell whether a row differs from the last load. Raises SourceUnavailable."""
        return await asyncio.to_thread(self._rows) != self._seen

    def validate_config(self, config: Mapping[str, Any]) -> list[Flaw]:
        """Return the flaws of `config`, and the credentials written in it."""
        return self.rules.all_flaws(config)

    async def watch(self) -> AsyncGenerator[None, None]:
        """Yield when a row differs, or the database becomes unavailable or available again."""
        if self._poll_seconds is not None:
            async for _ in poll_changes(self.is_modified, self._poll_seconds):
                yield

    def _rows(self) -> dict[str, str]:
        try:
            with closing(self._connect()) as connection, closing(connection.cursor()) as cursor:
                cursor.execute(f"SELECT path, value FROM {self._table} ORDER BY path")  # noqa: S608 - a checked name
                return {str(path): str(value) for path, value in cursor.fetchall()}
        except Exception as error:
            raise _unavailable(error) from error

    def _replace(self, rows: list[tuple[str, str]]) -> None:
        insert = f"INSERT INTO {self._table} (path, value) VALUES ({self._marks})"  # noqa: S608 - a checked name
        try:
            with closing(self._connect()) as connection, closing(connection.cursor()) as cursor:
                cursor.execute(f"DELETE FROM {self._table}")  # noqa: S608 - a checked name
                if rows:
                    cursor.executemany(insert, rows)
                connection.commit()
        except Exception as error:
            raise _unavailable(error) from error


def _unavailable(error: Exception) -> SourceUnavailable:
    # The message of the driver is only in the cause: it may quote a statement with its values, or
    # an address with its password.
    return SourceUnavailable(f"the database failed with {type(error).__name__}")


def _tree(rows: Mapping[str, str]) -> Tree:
    tree: Tree = {}
    for path, text in rows.items():
        try:
            set_in(tree, path, loads(text))
        except BadJson as error:
            raise BadConfig(f"the value at {path} is not JSON: {error.reason}") from None
        except KeysConflict as error:
            raise BadConfig(str(error)) from None
    return tree
