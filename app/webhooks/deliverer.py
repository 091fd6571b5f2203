"""Delivers what the log says to each webhook: at least once, in order for each entity.

One replica delivers for a webhook at a time, by its lease, for economy and not for order: the next
holder begins with what was recorded. So in the requests of any replica, and in any
mixture of them, what appears for the first time appears after its predecessors.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Final
from uuid import uuid4

import structlog

from app.errors import Unavailable
from app.rules.catalog import DefinitionCatalog
from app.telemetry import WEBHOOK_OLDEST
from app.webhooks.errors import LeaseLost
from app.webhooks.model import DeliveryState, Webhook
from app.webhooks.worker import LEASE_SECONDS, DeliveryPorts, WebhookWorker

_LOOK_SECONDS: Final = 0.5
_TRY_LEASE_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.5
_STATES_SECONDS: Final = 5.0
_NEW_SECONDS: Final = 3600.0  # in which a webhook may be opened and not yet be committed
DEAD_LETTER_SECONDS: Final = 14 * 24 * 3600.0
_log = structlog.get_logger(__name__)


class Deliverer:
    def __init__(self, ports: DeliveryPorts, catalog: DefinitionCatalog) -> None:
        self._ports = ports
        self._catalog = catalog
        self._owner = uuid4().hex
        self._tasks: dict[str, tuple[int, asyncio.Task[None]]] = {}  # by id, with the version
        self.states: Sequence[DeliveryState] = ()  # of all webhooks, a few seconds old

    async def run(self) -> None:
        """Deliver for every webhook until cancelled."""
        try:
            while True:
                if self._catalog.is_read and self._ports.follower.is_following:
                    await self._match_tasks()
                await self._ports.follower.wait_for_change(_LOOK_SECONDS)
        finally:
            stopped = list(self._tasks)
            await self._stop(stopped)
            with suppress(Unavailable):  # else the leases end by themselves
                for webhook_id in stopped:
                    await self._ports.store.release(webhook_id, self._owner)

    async def _match_tasks(self) -> None:
        """Run one task for the current version of each webhook."""
        current = {webhook.id: webhook for webhook in self._webhooks()}
        outdated = [
            webhook_id
            for webhook_id, (version, _) in self._tasks.items()
            if webhook_id not in current or current[webhook_id].version != version
        ]
        await self._stop(outdated)
        for webhook_id in outdated:
            if webhook_id not in current:
                self._ports.secrets.forget(webhook_id)
        for webhook_id, webhook in current.items():
            if webhook_id not in self._tasks:
                task = asyncio.create_task(self._deliver(webhook))
                self._tasks[webhook_id] = webhook.version, task

    def _webhooks(self) -> list[Webhook]:
        return [Webhook.of(each) for each in self._catalog.live("webhook")]

    async def _stop(self, webhook_ids: Sequence[str]) -> None:
        tasks = [self._tasks.pop(webhook_id)[1] for webhook_id in webhook_ids]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self, webhook: Webhook) -> None:
        """Deliver for one webhook whenever this replica gets its lease."""
        is_silent = False
        while True:
            pause = _TRY_LEASE_SECONDS
            try:
                lease = await self._ports.store.lease(webhook.id, self._owner, LEASE_SECONDS)
                is_silent = False
                if lease is not None:
                    await WebhookWorker(self._ports, webhook, self._owner).run(lease)
            except LeaseLost:
                _log.warning("webhook_lease_lost", webhook=webhook.name)
            except Unavailable as error:
                if not is_silent:  # an outage is logged once
                    _log.warning("webhook_waits", webhook=webhook.name, reason=str(error))
                is_silent, pause = True, _PAUSE_SECONDS
            except Exception:  # noqa: BLE001 - a bug with one webhook must not end the others
                _log.exception("webhook_failed", webhook=webhook.name)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter

    async def watch(self) -> None:
        """Keep measuring what is not delivered yet."""
        while True:
            if self._catalog.is_read:
                current = {webhook.id: webhook for webhook in self._webhooks()}
                states = await self._ports.store.states()
                self.states = [each for each in states if each.webhook_id in current]
                WEBHOOK_OLDEST.set(self.oldest_seconds)
            await asyncio.sleep(_STATES_SECONDS)

    @property
    def oldest_seconds(self) -> float:
        """The age of the oldest change that a webhook has not delivered yet."""
        return max((each.oldest_seconds for each in self.states), default=0.0)

    async def delete_leftovers(self) -> None:
        """Delete what belongs to deleted webhooks, and old dead letters."""
        if self._catalog.is_read:
            known = [webhook.id for webhook in self._webhooks()]
            await self._ports.store.clean(known, _NEW_SECONDS, DEAD_LETTER_SECONDS)

    def facts(self) -> dict[str, object]:
        """Return the members of /health."""
        return {
            "webhooks": len(self.states),
            "webhook_deliveries_waiting": sum(each.waiting for each in self.states),
            "webhook_dead_letters": sum(each.dead_letters for each in self.states),
            "webhook_gaps": sum(each.gaps for each in self.states),
        }
