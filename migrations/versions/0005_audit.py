"""The audit as a chain of rows that only grows, and where each came from.

Adds only: the release before runs on, and what it writes is chained too.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.stored_functions import stored_function

revision = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None

# The hash of a row, as in app/hash_chain.py: `length:text` of each field, `-` where it is null.
_AUDIT_LINK = stored_function("audit_link", revision)

# Everybody takes the lock of the head last: after the document's row (or the set's, or the
# instances') and LOG_LOCK, and waits for nothing else before he commits.
#
# The rows of one transaction follow each other, and the head is moved once for all when it commits:
# moved with each row, it would leave a dead one behind each time, to be passed over by the next.
# As its owner, so that who writes rows need not be able to write the head.
_AUDIT_CHAIN = stored_function("audit_chain", revision)
_AUDIT_HEAD = stored_function("audit_move_head", revision)
_REFUSE = stored_function("audit_refuse", revision)
_CHAIN_WHAT_IS_THERE = """
DO $$
DECLARE
    present audit;
    head audit_head;
BEGIN
    head := ROW(1, 0, decode(repeat('00', 32), 'hex'));
    FOR present IN SELECT * FROM audit ORDER BY id LOOP
        head.seq := head.seq + 1;
        present.seq := head.seq;
        UPDATE audit
        SET seq = head.seq, previous = head.hash, hash = audit_link(head.hash, present)
        WHERE id = present.id RETURNING hash INTO head.hash;
    END LOOP;
    INSERT INTO audit_head VALUES (head.*);
END
$$
"""
_TRIGGERS = (
    "CREATE TRIGGER audit_chain BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_chain()",
    (
        "CREATE CONSTRAINT TRIGGER audit_move_head AFTER INSERT ON audit"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_move_head()"
    ),
    (
        "CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"
    ),
    (
        "CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_heads"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"
    ),
    # Or who may make tables could call what runs as the owner from a trigger of his own.
    "REVOKE EXECUTE ON FUNCTION audit_chain(), audit_move_head() FROM PUBLIC",
)

# What follows is as in 0001, 0003 and 0004, but for what it hands to the audit. A parameter that is
# new has a default, so that the release before goes on calling.
_ADVANCE_DOCUMENT = stored_function("advance_document", revision)
_COMMIT_FLAGS = stored_function("commit_flags", revision)
_LOG_INSTANCES = stored_function("log_instances", revision)
_REGISTER_INSTANCE = stored_function("register_instance", revision)
_DROPPED = (
    "register_instance(text, text, text, text, double precision, text, text, text, integer)",
    "log_instances(instances[], text, text, text)",
    "commit_flags(text, bigint, jsonb, text, text, text, text, text)",
)


def upgrade() -> None:
    op.add_column("audit", sa.Column("source", sa.Text))
    op.add_column("audit", sa.Column("seq", sa.BigInteger))
    op.add_column("audit", sa.Column("previous", sa.LargeBinary))
    op.add_column("audit", sa.Column("hash", sa.LargeBinary))
    op.create_table(
        "audit_head",
        sa.Column(
            "id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False
        ),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "audit_heads",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(_AUDIT_LINK)
    for function in (_AUDIT_CHAIN, _AUDIT_HEAD):
        op.execute(function.format(schema=schema))
    op.execute(_REFUSE)
    op.execute(_CHAIN_WHAT_IS_THERE)
    for column in ("seq", "previous", "hash"):
        op.alter_column("audit", column, nullable=False)
    op.create_unique_constraint("audit_seq_key", "audit", ["seq"])
    for trigger in _TRIGGERS:
        op.execute(trigger)
    op.add_column("intents", sa.Column("source", sa.Text))
    op.add_column("intents", sa.Column("facts", JSONB))
    op.add_column("instances", sa.Column("fingerprint", sa.Text))
    for function in _DROPPED:
        op.execute(f"DROP FUNCTION {function}")
    for function in (_ADVANCE_DOCUMENT, _COMMIT_FLAGS, _LOG_INSTANCES, _REGISTER_INSTANCE):
        op.execute(function)
