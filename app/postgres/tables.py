"""The tables in Postgres."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData()

revisions = Sequence("changes_revision", metadata=metadata)
intent_numbers = Sequence("intents_seq", metadata=metadata)

changes = Table(
    "changes",
    metadata,
    Column("revision", BigInteger, primary_key=True, server_default=revisions.next_value()),
    Column("id", Text, nullable=False, unique=True),
    Column("doc", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("action", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("facts", JSONB),
    Column("logged_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("sent_at", DateTime(timezone=True)),
    UniqueConstraint("doc", "version"),
    Index("changes_by_environment", "environment", "revision"),
    Index("changes_by_kind", "kind", "revision"),
    Index("changes_by_name", "name", "revision"),
    Index("changes_by_time", "at"),
    Index("changes_unsent", "revision", postgresql_where=text("sent_at IS NULL")),
)

# One row: the highest revision that was removed from the log.
horizon = Table(
    "horizon",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
)

documents = Table(
    "documents",
    metadata,
    Column("doc", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("logged_version", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("updated_by", Text, nullable=False),
)

_undecided = text("state IN ('open', 'expired')")

intents = Table(
    "intents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("doc", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("base_version", Integer, nullable=False),
    Column("action", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("idempotency_key", Text, unique=True),
    Column("digest", Text),
    Column("source", Text),  # what of it goes into the audit
    Column("facts", JSONB(none_as_null=True)),
    Column("state", Text, nullable=False),
    Column("version", Integer),
    Column("revision", BigInteger),
    Column("looks", Integer, nullable=False, server_default=text("0")),
    # Of a reserved intent: the end of its reservation.
    Column("look_after", DateTime(timezone=True), nullable=False),
    # Ascends in the order of commits among intents that exclude each other by a lock.
    Column("seq", BigInteger),  # from `intents_seq`; none without a guard
    Index("intents_undecided_by_look", "look_after", postgresql_where=_undecided),
    Index("intents_undecided_by_doc", "doc", "base_version", postgresql_where=_undecided),
    Index("intents_decided_by_time", "at", postgresql_where=text("state IN ('applied', 'lost')")),
    Index("intents_reserved", "look_after", postgresql_where=text("state = 'reserved'")),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer),
    Column("revision", BigInteger),
    Column("request_id", Text),
    Column("source", Text),  # the address the request came from
    Column("facts", JSONB(none_as_null=True)),
    # Set by a trigger at each insert: ties the row to the one before it (app/hash_chain.py).
    Column("seq", BigInteger, nullable=False, unique=True),
    Column("previous", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Index("audit_by_time", "at"),
    # For each filter of GET /api/v1/audit, in the order that it answers.
    Index("audit_by_actor", "actor", "seq"),
    Index("audit_by_action", "action", "seq"),
    Index("audit_by_kind", "kind", "seq"),
    Index("audit_by_environment", "environment", "seq"),
    Index("audit_by_name", "name", "seq"),
    # Of changes made past a policy.
    Index("audit_bypasses", "seq", postgresql_where=text("facts -> 'bypass_reason' IS NOT NULL")),
)

# One row: the last of the audit. A transaction that appends locks it, after any other lock.
audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

# Heads of the audit that were signed.
audit_heads = Table(
    "audit_heads",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", DateTime(timezone=True), primary_key=True),
    Column("hash", LargeBinary, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

claims = Table(
    "claims",
    metadata,
    Column("task", Text, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
)


def _version_columns(*, all_versions: bool) -> tuple[Column[Any], ...]:
    """Return the columns of what has versions, of every version or of the newest only."""
    return (
        Column("kind", Text, primary_key=True),
        Column("name", Text, primary_key=True),
        Column("version", Integer, primary_key=all_versions, nullable=False, autoincrement=False),
        # Not as JSONB, which would lose the order of members.
        Column("definition", Text, nullable=False),
        Column("action", Text, nullable=False),
        Column("actor", Text, nullable=False),
        Column("comment", Text, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False),
        Column("revision", BigInteger, nullable=False),
    )


flag_items = Table(
    "flag_items",
    metadata,
    Column("environment", Text, primary_key=True),
    *_version_columns(all_versions=False),
    Index("flag_items_by_revision", "revision"),
)

flag_versions = Table(
    "flag_versions",
    metadata,
    Column("environment", Text, primary_key=True),
    *_version_columns(all_versions=True),
    Index("flag_versions_by_revision", "revision"),
)

definition_items = Table(
    "definition_items",
    metadata,
    *_version_columns(all_versions=False),
    # Where it applies: [{"environments": [...], "services": [...]}], patterns as LIKE has them.
    Column("scopes", JSONB, nullable=False),
    Index("definition_items_by_revision", "revision"),
)

definition_versions = Table(
    "definition_versions",
    metadata,
    *_version_columns(all_versions=True),
)

proposals = Table(
    "proposals",
    metadata,
    Column("id", Text, primary_key=True),
    Column("number", BigInteger, Identity(always=True), nullable=False, unique=True),
    Column("version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("is_open", Boolean, nullable=False),
    Column("author", Text, nullable=False),
    Column("environments", ARRAY(Text), nullable=False),
    Column("apply_at", DateTime(timezone=True)),
    Column("document", JSONB, nullable=False),  # everything else; no configuration value
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("idempotency_key", Text, unique=True),
    Column("digest", Text),
    Index("proposals_open", "state", postgresql_where=text("is_open")),
)

# The last revision of each environment's flags and segments: what a commit is based on.
flag_sets = Table(
    "flag_sets",
    metadata,
    Column("environment", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
)

flag_requests = Table(
    "flag_requests",
    metadata,
    Column("idempotency_key", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("environment", Text, nullable=False),
    Column("first_revision", BigInteger, nullable=False),  # both 0 where nothing was written
    Column("last_revision", BigInteger, nullable=False),
)

flag_usage = Table(
    "flag_usage",
    metadata,
    Column("environment", Text, primary_key=True),
    Column("flag", Text, primary_key=True),
    Column("variant", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("last_evaluated_at", DateTime(timezone=True), nullable=False),
)

_registered = text("state = 'registered'")

# No index on columns that a heartbeat changes, so that a heartbeat updates no index.
instances = Table(
    "instances",
    metadata,
    Column("service", Text, primary_key=True),
    Column("instance_id", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("term", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("health", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("lease", Text, nullable=False),
    Column("ttl_seconds", Double, nullable=False),
    Column("registered_at", DateTime(timezone=True), nullable=False),
    Column("heartbeat_at", DateTime(timezone=True), nullable=False),
    Column("claimed_at", DateTime(timezone=True), nullable=False),  # or registered
    Column("draining_until", DateTime(timezone=True)),
    Column("version", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("moved_at", DateTime(timezone=True), nullable=False),  # by the newest change
    Column("fingerprint", Text),  # keyed, of the definition
    Column("released_at", DateTime(timezone=True)),  # unprotected if heard from earlier
    Index("instances_by_revision", "revision"),
    Index("instances_by_owner", "owner", postgresql_where=_registered),
    Index("instances_by_service", "service", postgresql_where=_registered),
    Index("instances_by_drain", "draining_until", postgresql_where=_registered),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("token_class", Text, nullable=False),
    Column("environments", ARRAY(Text), nullable=False),
    Column("services", ARRAY(Text), nullable=False),
    Column("roles", ARRAY(Text), nullable=False),
    Column("digest", LargeBinary, nullable=False),  # keyed; the secret itself is nowhere
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),
    Column("revision", BigInteger, nullable=False),
    Column("created_by_id", Text),  # the identity of the maker; null: not known
    Index("tokens_by_revision", "revision"),
    Index("tokens_by_time", "created_at", "id"),
)

releases = Table(
    "releases",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("service", Text, nullable=False),  # `*` of a flag
    Column("flag", Text, nullable=False),  # "" of a configuration
    Column("plan", Text, nullable=False),
    Column("keys", ARRAY(Text), nullable=False),
    Column("base", Integer, nullable=False),
    Column("proposal", Text),
    Column("round", Integer),
    Column("item", Integer),
    Column("members", ARRAY(Text), nullable=False),  # instances, where the plan counts them
    Column("state", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("step_since", DateTime(timezone=True), nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("started_by", Text, nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Column("signal", Text, nullable=False),  # what aborted it
    Column("actor", Text, nullable=False),  # of the newest change
    Column("comment", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("releases_by_revision", "revision"),
    Index("releases_by_start", "started_at", "id"),
    # One release of each subject at a time.
    Index(
        "releases_active",
        "kind",
        "environment",
        "service",
        "flag",
        unique=True,
        postgresql_where=text("state IN ('running', 'held', 'finishing')"),
    ),
)

readers = Table(
    "readers",
    metadata,
    Column("environment", Text, primary_key=True),
    Column("service", Text, primary_key=True),
    Column("instance", Text, primary_key=True),
    Column("etag", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("release", Text),
    Column("arm", Text),
    Column("read_at", DateTime(timezone=True)),
    Column("outcome", Text),
    Column("code", Text, nullable=False),
    Column("reported_at", DateTime(timezone=True)),
    Column("seen_at", DateTime(timezone=True), nullable=False),
    Index("readers_by_time", "seen_at"),
)

release_reports = Table(
    "release_reports",
    metadata,
    Column("release", Text, primary_key=True),
    Column("instance", Text, primary_key=True),
    Column("arm", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)

# How far the deliveries of each webhook are, and the replica that makes them.
webhook_cursors = Table(
    "webhook_cursors",
    metadata,
    Column("webhook", Text, primary_key=True),
    Column("cursor", BigInteger, nullable=False),
    Column("owner", Text),
    Column("lease_until", DateTime(timezone=True), nullable=False),
    Column("opened_at", DateTime(timezone=True), nullable=False),
    Column("attempted", BigInteger, nullable=False, server_default="0"),
    Column("gaps", Integer, nullable=False, server_default="0"),
)

# Those that wait for another attempt, and dead letters.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("webhook", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("entity", Text, nullable=False),
    Column("message", Text, nullable=False),  # the event, which holds no value
    Column("attempts", Integer, nullable=False),
    Column("queued_at", DateTime(timezone=True), nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("dead_at", DateTime(timezone=True)),
    Column("status", Integer),
    Column("reason", Text, nullable=False),
    Index(
        "webhook_deliveries_waiting",
        "webhook",
        "entity",
        "revision",
        "id",
        postgresql_where=text("dead_at IS NULL"),
    ),
    Index(
        "webhook_deliveries_dead",
        "webhook",
        "revision",
        "id",
        postgresql_where=text("dead_at IS NOT NULL"),
    ),
)

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("webhook", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status", Integer),
    Column("reason", Text, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)

# The source version of each subject that was promoted last from one environment to another.
promotions = Table(
    "promotions",
    metadata,
    Column("source", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("service", Text, primary_key=True),
    Column("digest", Text, primary_key=True),  # of the key, which may be too long for an index
    Column("key", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)

# Ordered by code points, as cursors are compared.
promotion_pins = Table(
    "promotion_pins",
    metadata,
    Column("environment", Text(collation="C"), primary_key=True),
    Column("kind", Text(collation="C"), primary_key=True),
    Column("service", Text(collation="C"), primary_key=True),
    Column("key", Text(collation="C"), primary_key=True),
    Column("actor", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)
