"""The numbers of advisory locks in Postgres."""

from typing import Final

# Every transaction that takes a revision holds this lock, so that commit order is revision order.
LOG_LOCK: Final = 7_310_011
MIGRATION_LOCK: Final = 7_310_012
# The replica whose session holds this lock is the one that sends events.
RELAY_LOCK: Final = 7_310_013
# With a service's hash: a transaction that registers instances of the service holds this lock.
REGISTER_LOCK: Final = 7_310_014
# Held shared by each guarded intent that is recorded, exclusively by each commit of definitions.
DEFINITIONS_LOCK: Final = 7_310_015
# Held, after the one above, by each intent recorded that is judged with related documents.
RELATED_LOCK: Final = 7_310_016
# Held while a proposal is created: their number is limited, and each idempotency key is used once.
PROPOSALS_LOCK: Final = 7_310_017
