"""Instances that are registered. Adds only: the release before runs on."""

import sqlalchemy as sa
from alembic import op

from migrations.stored_functions import stored_function

revision = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None

_REGISTERED = sa.text("state = 'registered'")

# Stores rows that the caller has locked and changed, each as its next version, and logs it.
#
# Two locks, always in this order. The rows, by service and instance, so that nobody waits for
# somebody who waits for him. Then the advisory lock, as late as possible (see advance_document);
# whoever has it waits for nothing else: the pointer in `documents` belongs to who has the row.
_LOG_INSTANCES = stored_function("log_instances", revision)

# The outcome is `created`, `updated` (it was registered just before), or `full` if the service has
# as many registered instances as it may: nothing is written then. Those who register instances of
# one service take turns (7310014 is REGISTER_LOCK in app/postgres/locks.py; services of one hash
# share a turn), or they would count past each other.
#
# An epoch never comes again, though the row was reaped: each registration is one version of many,
# and the pointer remembers the last version.
_REGISTER_INSTANCE = stored_function("register_instance", revision)


def upgrade() -> None:
    op.create_table(
        "instances",
        sa.Column("service", sa.Text, primary_key=True),
        sa.Column("instance_id", sa.Text, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("health", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("definition", sa.Text, nullable=False),
        sa.Column("lease", sa.Text, nullable=False),
        sa.Column("ttl_seconds", sa.Double, nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("draining_until", sa.DateTime(timezone=True)),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("instances_by_revision", "instances", ["revision"])
    op.create_index("instances_by_owner", "instances", ["owner"], postgresql_where=_REGISTERED)
    op.create_index("instances_by_service", "instances", ["service"], postgresql_where=_REGISTERED)
    op.create_index(
        "instances_by_drain", "instances", ["draining_until"], postgresql_where=_REGISTERED
    )
    op.execute(_LOG_INSTANCES)
    op.execute(_REGISTER_INSTANCE)
