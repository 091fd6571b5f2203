"""Flags and segments in Postgres: one statement a call."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Final

from sqlalchemy import Row, and_, delete, func, select, text, true
from sqlalchemy.ext.asyncio import AsyncEngine

from app.flags.errors import FlagsUnavailable, KeyTaken, SetMoved
from app.flags.model import Commit, Edit, FlagUsage, Item, Kind, RecordedCommit
from app.flags.store.usage_rows import UsageRow, usage_by_flag, usage_rows
from app.postgres.calls import Calls
from app.postgres.tables import flag_items, flag_requests, flag_usage, flag_versions
from app.rules.errors import PoliciesMoved
from app.workers import LARGE_TEXT, run_apart

# As long as the server lets a statement run: thousands of edits may take more than the usual time.
_KEY_LIFE: Final = timedelta(hours=24)
_FORGET_AT_MOST: Final = 1000

_COMMIT: Final = text(
    "SELECT * FROM commit_flags_under_policies(:policies_at, :environment, :base,"
    " CAST(:edits AS jsonb), :actor, :comment, :request_id, :idempotency_key, :digest, :source)"
)
# In one order everywhere, or replicas that count the same flags could wait for each other.
_COUNT: Final = text("""
    INSERT INTO flag_usage AS known (environment, flag, variant, count, last_evaluated_at)
    SELECT counted.environment, counted.flag, counted.variant, counted.count, :at
    FROM unnest(
        CAST(:environments AS text[]), CAST(:flags AS text[]), CAST(:variants AS text[]),
        CAST(:counts AS bigint[])
    ) AS counted (environment, flag, variant, count)
    ORDER BY counted.environment, counted.flag, counted.variant
    ON CONFLICT (environment, flag, variant) DO UPDATE SET
        count = known.count + excluded.count,
        last_evaluated_at = greatest(known.last_evaluated_at, excluded.last_evaluated_at)
""")
_PING: Final = text("SELECT 1")


class PostgresFlagStore:
    def __init__(self, engine: AsyncEngine) -> None:
        self._calls = Calls(
            engine, lambda why: FlagsUnavailable(f"the flag store does not answer: {why}")
        )

    async def commit(self, commit: Commit) -> Sequence[Item]:
        facts = {
            "environment": commit.environment,
            "base": commit.base,
            "edits": await run_apart(_is_large(commit), _edits, commit),
            "actor": commit.actor,
            "comment": commit.comment,
            "request_id": commit.request_id,
            "idempotency_key": commit.idempotency_key,
            "digest": commit.digest or "",
            "source": commit.source,
            "policies_at": commit.policies_at,
        }
        # Not asked again: if the first was committed unheard, the second would find it moved.
        made = await self._calls.run("flags_commit", _COMMIT, facts, again=False)
        row = made.one()
        if row.outcome == "taken":
            raise KeyTaken
        if row.outcome == "policies":
            raise PoliciesMoved
        if row.outcome == "moved":
            raise SetMoved(row.last_revision)
        return _items_of(commit, row)

    async def commit_by_idempotency_key(self, idempotency_key: str) -> RecordedCommit | None:
        items, requests = flag_versions.c, flag_requests.c
        written = and_(
            items.environment == requests.environment,
            items.revision.between(requests.first_revision, requests.last_revision),
        )
        statement = (
            select(requests.digest, flag_versions)
            .join_from(flag_requests, flag_versions, written, isouter=True)
            .where(
                requests.idempotency_key == idempotency_key,
                requests.at > func.now() - _KEY_LIFE,
            )
            .order_by(items.revision)
        )
        rows = (await self._calls.run("flags_repeated", statement)).all()
        if not rows:
            return None
        return RecordedCommit(
            rows[0].digest, [_item(row) for row in rows if row.revision is not None]
        )

    async def delete_expired_keys(self) -> int:
        worn_out = flag_requests.c.at <= func.now() - _KEY_LIFE
        key = flag_requests.c.idempotency_key
        doomed = select(key).where(worn_out).limit(_FORGET_AT_MOST)
        # Checked twice: if a key is used again in the meantime, the second check sees the new row.
        gone = delete(flag_requests).where(key.in_(doomed), worn_out)
        return (await self._calls.run("flags_forget", gone)).rowcount

    async def items_after(self, after: int, limit: int) -> Sequence[Item]:
        statement = (
            select(flag_items)
            .where(flag_items.c.revision > after)
            .order_by(flag_items.c.revision)
            .limit(limit)
        )
        return [_item(row) for row in await self._calls.run("flags_newer", statement)]

    async def history(
        self, kind: Kind, environment: str, name: str, limit: int, before: int | None = None
    ) -> Sequence[Item]:
        versions = flag_versions.c
        statement = (
            select(flag_versions)
            .where(
                versions.environment == environment,
                versions.kind == kind,
                versions.name == name,
                true() if before is None else versions.version < before,
            )
            .order_by(versions.version.desc())
            .limit(limit)
        )
        return [_item(row) for row in await self._calls.run("flags_history", statement)]

    async def count(self, used: Mapping[tuple[str, str], Mapping[str, int]], at: datetime) -> None:
        columns = list(zip(*usage_rows(used), strict=True)) or [()] * 4
        names = ("environments", "flags", "variants", "counts")
        facts = {name: list(column) for name, column in zip(names, columns, strict=True)}
        # Not asked again, or what the first has counted unheard would count twice.
        await self._calls.run("flags_count", _COUNT, {**facts, "at": at}, again=False)

    async def usage(self, environment: str) -> Mapping[str, FlagUsage]:
        # Under another name, because a row has a method `count`.
        times = flag_usage.c.count.label("times")
        statement = select(flag_usage, times).where(flag_usage.c.environment == environment)
        rows = await self._calls.run("flags_usage", statement)
        return usage_by_flag(
            (UsageRow(environment, row.flag, row.variant, row.times), row.last_evaluated_at)
            for row in rows
        )

    async def ping(self) -> None:
        await self._calls.run("flags_ping", _PING, seconds=self._calls.deadlines.ping)


def _is_large(commit: Commit) -> bool:
    return sum(len(edit.definition) for edit in commit.edits) > LARGE_TEXT


def _edits(commit: Commit) -> str:
    """Write each by itself: the interpreter does nothing else until one is written."""
    return f"[{','.join(json.dumps(_facts(edit)) for edit in commit.edits)}]"


def _facts(edit: Edit) -> dict[str, object]:
    # Omitted if the edit has no facts: the null of JSON is not the null of SQL.
    audited: dict[str, object] = {} if edit.facts is None else {"facts": edit.facts}
    return {
        **audited,
        "kind": edit.kind,
        "name": edit.name,
        "definition": edit.definition,
        "action": edit.action,
    }


def _items_of(commit: Commit, row: Row[Any]) -> list[Item]:
    """Combine the edits with the versions and times that the database assigned."""
    if not commit.edits:
        return []
    first = row.last_revision - len(commit.edits) + 1
    return [
        Item(
            kind=edit.kind,
            environment=commit.environment,
            name=edit.name,
            version=version,
            definition=edit.definition,
            action=edit.action,
            actor=commit.actor,
            comment=commit.comment,
            at=row.moment,
            created_at=created_at,
            revision=revision,
        )
        for revision, edit, version, created_at in zip(
            count(first), commit.edits, row.versions, row.created, strict=False
        )
    ]


def _item(row: Row[Any]) -> Item:
    return Item(
        kind=row.kind,
        environment=row.environment,
        name=row.name,
        version=row.version,
        definition=row.definition,
        action=row.action,
        actor=row.actor,
        comment=row.comment,
        at=row.at,
        created_at=row.created_at,
        revision=row.revision,
    )
