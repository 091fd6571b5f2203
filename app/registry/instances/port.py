"""Port: stores the desired state of the registry.

Adapters: `postgres` and `embedded`. Both pass `tests/contracts/test_instance_store.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from app.registry.model import (
    EvictionCandidates,
    HealthStatus,
    Heartbeat,
    InstanceKey,
    InstanceRow,
    Registration,
    RegistrationResult,
    RowToken,
)


class InstanceStore(Protocol):
    """Every method is one transaction that is committed before the method returns.

    Concurrent registrations may share a transaction.

    Each method raises RegistryUnavailable within its deadline. A *logged* transition creates one
    change (kind `instance`) and one version of the row. Other operations create no change: a claim
    updates `term`, a heartbeat `heartbeat_at`; neither creates a revision.
    """

    async def register(self, registration: Registration) -> RegistrationResult:
        """Register, logged; an existing registration with the same name is replaced completely.

        A new epoch begins at term 1; an epoch is never reused. An instance with a heartbeat lease
        is `up` at once, one with a probe lease is `starting`. Raises TooManyInstances, and OldEpoch
        if the registered epoch is not the one that may be replaced.
        """
        ...

    async def deregister(
        self,
        service: str,
        instance_id: str,
        epoch: int | None,
        actor: str,
        request_id: str,
        source: str | None = None,
    ) -> InstanceRow:
        """Deregister, logged; the term increases. Epoch None: any registration.

        Raises InstanceNotFound if it is not registered, and OldEpoch if another epoch is.
        """
        ...

    async def drain(  # noqa: PLR0913, PLR0917 - three of them identify the caller
        self,
        service: str,
        instance_id: str,
        epoch: int | None,
        grace_seconds: float,
        actor: str,
        request_id: str,
        source: str | None = None,
    ) -> InstanceRow:
        """Set the end of the grace period, logged; raises the same errors as `deregister`."""
        ...

    async def finish_drains(self) -> Sequence[InstanceRow]:
        """Deregister instances whose grace period has ended, logged; return their rows."""
        ...

    async def claim(
        self, tokens: Sequence[RowToken], owner: str, settle_seconds: float
    ) -> Sequence[InstanceRow]:
        """Give each registered row that is still at its token to `owner`; return those rows.

        Their terms have increased. A row that another owner claimed or registered less than
        `settle_seconds` ago is skipped. Of several claims at one token, one succeeds.
        """
        ...

    async def record_heartbeats(
        self, heartbeats: Sequence[Heartbeat]
    ) -> Mapping[InstanceKey, InstanceRow]:
        """Record heartbeats received now; a suspect instance becomes up, logged.

        Returns the current rows. Instances not registered, or with another epoch, are absent.
        """
        ...

    async def set_health(self, marks: Mapping[RowToken, HealthStatus]) -> Sequence[InstanceRow]:
        """Set the health of each registered row that is still at its token; return changed rows.

        Logged where the health differs.
        """
        ...

    async def mark_suspects(self) -> EvictionCandidates:
        """Mark instances silent for one ttl as suspect, logged; return the candidates for eviction.

        Only heartbeat leases. A call marks at most `MAX_LOGGED_PER_CALL` rows and returns at most
        `MAX_ROWS_PER_CALL`, those silent for the longest time first, taken from all services in
        turn, so that protected instances of one service do not hide those of another.
        """
        ...

    async def release(
        self, service: str | None, actor: str, request_id: str, source: str | None = None
    ) -> Sequence[InstanceKey]:
        """End the protection of instances silent for one ttl; return their keys.

        Of one service, or of all. It holds until their next heartbeat. Nothing is logged; the audit
        gets one row (`RELEASE_ACTION`), even if no instance is concerned.
        """
        ...

    async def evict(self, tokens: Sequence[RowToken]) -> Sequence[InstanceRow]:
        """Evict rows still at their token and silent for two ttl, logged; return them.

        Only heartbeat leases; the term increases. Rows with a heartbeat since then stay.
        """
        ...

    async def row(self, service: str, instance_id: str) -> InstanceRow | None:
        """Return the row in any state."""
        ...

    async def rows_by_key(self, keys: Sequence[InstanceKey]) -> Mapping[InstanceKey, InstanceRow]:
        """Return the existing rows of these keys, in any state."""
        ...

    async def rows_of_owner(self, owner: str) -> Sequence[InstanceRow]:
        """Return the registered rows of an owner."""
        ...

    async def rows_after(self, after: int, limit: int) -> Sequence[InstanceRow]:
        """Return rows changed after this revision, ascending, in any state.

        At most `limit`; call again with the revision of the last row.
        """
        ...

    async def reap(self, older_than_seconds: float) -> Sequence[RowToken]:
        """Delete rows that have been unregistered for this long; return their last tokens.

        Their changes stay, and a later registration begins a later epoch. At most
        `MAX_ROWS_PER_CALL` rows in a call.
        """
        ...

    async def ping(self) -> None:
        """Return if the store answers."""
        ...
