"""Releases, and who reads which version. Adds only: the release before runs on."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from migrations.stored_functions import stored_function

revision = "0011"
down_revision: str | None = "0010"
branch_labels: str | None = None
depends_on: str | None = None

_LOG = stored_function("log_release", revision)
# The outcome is `started` or `repeated`; or, with nothing written, `running` (the release of the
# same subject that has not ended) or `too_many`.
_START = stored_function("start_release", revision)
# The outcome is `written`; or, with nothing written, `unknown`, `ended` or `moved`.
_MOVE = stored_function("move_release", revision)


def _create_releases() -> None:
    op.create_table(
        "releases",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("flag", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("keys", ARRAY(sa.Text), nullable=False),
        sa.Column("base", sa.Integer, nullable=False),
        sa.Column("proposal", sa.Text),
        sa.Column("round", sa.Integer),
        sa.Column("item", sa.Integer),
        sa.Column("members", ARRAY(sa.Text), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("step_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_by", sa.Text, nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("signal", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_index("releases_by_revision", "releases", ["revision"])
    op.create_index("releases_by_start", "releases", ["started_at", "id"])
    op.create_index(
        "releases_active",
        "releases",
        ["kind", "environment", "service", "flag"],
        unique=True,
        postgresql_where=sa.text("state IN ('running', 'held', 'finishing')"),
    )


def _create_readers() -> None:
    op.create_table(
        "readers",
        sa.Column("environment", sa.Text, primary_key=True),
        sa.Column("service", sa.Text, primary_key=True),
        sa.Column("instance", sa.Text, primary_key=True),
        sa.Column("etag", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("release", sa.Text),
        sa.Column("arm", sa.Text),
        sa.Column("read_at", sa.DateTime(timezone=True)),
        sa.Column("outcome", sa.Text),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("reported_at", sa.DateTime(timezone=True)),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("readers_by_time", "readers", ["seen_at"])
    op.create_table(
        "release_reports",
        sa.Column("release", sa.Text, primary_key=True),
        sa.Column("instance", sa.Text, primary_key=True),
        sa.Column("arm", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )


def upgrade() -> None:
    _create_releases()
    _create_readers()
    op.execute(_LOG)
    op.execute(_START)
    op.execute(_MOVE)
