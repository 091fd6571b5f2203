"""Indexes for what the audit is asked by. Adds only: the release before runs on."""

from alembic import op

revision = "0008"
down_revision: str | None = "0007"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    for column in ("actor", "action", "kind", "environment", "name"):
        op.create_index(f"audit_by_{column}", "audit", [column, "seq"])
