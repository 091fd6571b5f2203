"""Builds the change log's part of the service: following, trimming, saving and relaying it."""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from app.changes.events.port import EventPublisher
from app.changes.events.relay import Relay
from app.changes.follower import Follower
from app.changes.log.port import ChangeLog, Intents, LogPorts, Maintenance
from app.changes.retention import KEPT_OF_EACH, TRIM_SECONDS, Retention
from app.changes.turns import in_turns
from app.changes.warm_start.pointers import PointerSnapshots, SnapshotCache
from app.errors import Unavailable
from app.feature import Feature, Task
from app.settings import Settings

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Changes:
    intents: Intents
    log: ChangeLog
    maintenance: Maintenance
    follower: Follower
    snapshots: PointerSnapshots
    feature: Feature


def build_changes(
    settings: Settings,
    ports: LogPorts,
    cache: SnapshotCache,
    publisher: EventPublisher | None,
    prepare: Task,
) -> Changes:
    """Build it; `prepare` runs before the log is first read."""
    follower = Follower(ports.log)
    snapshots = PointerSnapshots(follower, cache)
    relay = Relay(ports.outbox, publisher, follower) if publisher else None
    retention = _build_retention(settings, ports.maintenance, relayed=relay is not None)

    async def start() -> None:
        """Read the log before the first request; if that fails, a background task retries."""
        try:
            await prepare()
            await follower.start()
        except Exception as error:  # noqa: BLE001 - the background task retries, and reports it
            reason = str(error) if isinstance(error, Unavailable) else type(error).__name__
            _log.warning("log_away_at_start", reason=reason)

    async def follow() -> None:
        if not follower.is_following:  # once: a migration waits far longer than a replica may lag
            await snapshots.adopt()  # nothing has been read yet if the log is unavailable
            await prepare()
        await follower.follow()

    def facts() -> Mapping[str, object]:
        return {
            "revision": follower.revision,
            "log_last_contact_seconds": round(follower.silence, 3),
            "oldest_unsent_event_seconds": relay and round(relay.oldest_unsent, 3),
        }

    relay_tasks = {} if relay is None else {"relay": relay.run, "watch_relay": relay.watch}
    feature = Feature(
        state={"intents": ports.intents, "log": ports.log, "follower": follower},
        start=start,
        tasks={
            "follow": follow,
            "keep_pointers": snapshots.keep_saving,
            "trim": in_turns(ports.maintenance, "trim", TRIM_SECONDS, retention.trim),
            **relay_tasks,
        },
        is_ready=lambda: follower.has_pointers,
        facts=facts,
        begin_shutdown=follower.wake_waiters,
    )
    return Changes(ports.intents, ports.log, ports.maintenance, follower, snapshots, feature)


def _build_retention(settings: Settings, maintenance: Maintenance, *, relayed: bool) -> Retention:
    days, keep = settings.change_retention_days, max(settings.vault_max_versions, KEPT_OF_EACH)
    return Retention(maintenance, days, keep, relayed=relayed)
