"""Tokens. Adds only: the release before runs on."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from migrations.stored_functions import stored_function

revision = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None

# The advisory lock as late as possible (see advance_document): who revokes has the token's row
# already, so that those who revoke one token take turns.
_LOG = stored_function("log_token", revision)

_CREATE = stored_function("create_token", revision)

# All columns are null if there is no such token. One that is revoked stays as it is.
_REVOKE = stored_function("revoke_token", revision)


def upgrade() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("token_class", sa.Text, nullable=False),
        sa.Column("environments", ARRAY(sa.Text), nullable=False),
        sa.Column("services", ARRAY(sa.Text), nullable=False),
        sa.Column("roles", ARRAY(sa.Text), nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_index("tokens_by_revision", "tokens", ["revision"])
    op.create_index("tokens_by_time", "tokens", ["created_at", "id"])
    op.execute(_LOG)
    op.execute(_CREATE)
    op.execute(_REVOKE)
