"""What an intent and a commit of definitions ask of each other in SQLite (docs/protocols.md E)."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias

from app.changes.log.sqlite_log import format_timestamp
from app.changes.model import Entity
from pilothouse_core.name_patterns import matches

Scopes: TypeAlias = Iterable[Mapping[str, Sequence[str]]]  # of JSON: environments and services

# A document of a user has a `/` in its name: it contributes to no other's configuration.
_OF_NO_USER: Final = "kind = 'config' AND instr(name, '/') = 0"
_OF_ENVIRONMENTS: Final = frozenset({"flag", "segment"})
_RELATED: Final = (
    "kind = 'config' AND (doc = :doc"
    " OR (:environment = 'default' OR environment IN ('default', :environment))"
    " AND (name IN ('_shared', :service) OR :service = '_shared' AND instr(name, '/') = 0))"
)
# Two queries, each of which has an index of its own.
_UNDER_WAY: Final = (
    "(SELECT * FROM intents WHERE state IN ('open', 'expired') AND state = 'open'"
    " UNION ALL SELECT * FROM intents WHERE state = 'reserved' AND look_after > :now)"
)


def service_of(entity: Entity) -> str:
    """Return the service of a document, whose name may be `service/user`."""
    return entity.name.partition("/")[0]


def is_covered(scopes: Scopes, environment: str, service: str) -> bool:
    """Tell whether a scope covers a configuration that the document contributes to."""
    return any(
        (environment == "default" or _matches_any(scope["environments"], environment))
        and (service == "_shared" or _matches_any(scope["services"], service))
        for scope in scopes
    )


def newest_definition_change(connection: sqlite3.Connection, after: int, entity: Entity) -> int:
    """Return the last revision after this one that changed a schema or policy covering it, or 0."""
    return _newest_change(connection, after, ("schema", "policy"), entity)


def newest_policy_change(
    connection: sqlite3.Connection, after: int, entity: Entity | None = None
) -> int:
    """Return the last revision after this one that changed a policy that covers it, or 0.

    None: any policy. Flags belong to no service, so that only the environment counts.
    """
    return _newest_change(connection, after, ("policy",), entity)


def _newest_change(
    connection: sqlite3.Connection, after: int, kinds: tuple[str, ...], entity: Entity | None
) -> int:
    rows = connection.execute(
        "SELECT revision, kind, scopes FROM definition_items WHERE revision > ?",
        (after,),
    )
    return max(
        (
            row["revision"]
            for row in rows
            if row["kind"] in kinds and (entity is None or _covers(row["scopes"], entity))
        ),
        default=0,
    )


def _covers(scopes: str, entity: Entity) -> bool:
    service = "_shared" if entity.kind in _OF_ENVIRONMENTS else service_of(entity)
    return is_covered(json.loads(scopes), entity.environment, service)


def newest_related_change(connection: sqlite3.Connection, after: int, entity: Entity) -> int:
    """Return the last revision after this one that changed a related document, or 0."""
    (revision,) = connection.execute(
        f"SELECT max(revision) FROM changes WHERE revision > :after AND {_RELATED}",  # noqa: S608 (ours)
        {**_names(entity), "after": after},
    ).fetchone()
    return revision or 0


def related_intents(connection: sqlite3.Connection, entity: Entity) -> list[sqlite3.Row]:
    """Return the intents of related documents that are open or reserved, with their `seq`."""
    return connection.execute(
        f"SELECT id, seq FROM {_UNDER_WAY} WHERE {_RELATED}",  # noqa: S608 (ours)
        {**_names(entity), "now": format_timestamp(datetime.now(UTC))},
    ).fetchall()


def newest_covered_change(connection: sqlite3.Connection, after: int, scopes: Scopes) -> int:
    """Return the last revision after this one that changed a document in the scopes, or 0."""
    rows = connection.execute(
        f"SELECT revision, environment, name FROM changes WHERE revision > ? AND {_OF_NO_USER}",  # noqa: S608 (ours)
        (after,),
    )
    return max((row["revision"] for row in rows if _covering(scopes)(row)), default=0)


def is_covered_intent_under_way(connection: sqlite3.Connection, scopes: Scopes) -> bool:
    """Tell whether an intent of a document in the scopes is open or reserved."""
    rows = connection.execute(
        f"SELECT environment, name FROM {_UNDER_WAY} WHERE {_OF_NO_USER}",  # noqa: S608 (ours)
        {"now": format_timestamp(datetime.now(UTC))},
    )
    return any(map(_covering(scopes), rows))


def _covering(scopes: Scopes) -> Callable[[sqlite3.Row], bool]:
    return lambda row: is_covered(scopes, row["environment"], row["name"])


def _matches_any(patterns: Sequence[str], name: str) -> bool:
    return any(matches(pattern, name) for pattern in patterns)


def _names(entity: Entity) -> dict[str, object]:
    return {
        "doc": entity.key,
        "environment": entity.environment,
        "service": service_of(entity),
    }
