"""Delivers for one webhook, as long as this replica has its lease."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic, time
from typing import Final

import structlog

from app.changes.follower import Follower
from app.changes.log.port import ChangeLog
from app.telemetry import WEBHOOK_DELIVERIES
from app.webhooks.messages import body_of, delivery_of, delivery_of_gap
from app.webhooks.model import (
    NOTHING_WAITS,
    Attempt,
    Delivery,
    Lease,
    Outcome,
    RoundResult,
    Webhook,
)
from app.webhooks.rounds import Failure, Round, is_given_up
from app.webhooks.secrets import OpenedWebhook, WebhookSecrets
from app.webhooks.sender import Answer, Receiver, ReceiverUnreachable, Sender
from app.webhooks.signing import signature_headers
from app.webhooks.store.port import DeliveryStore

LEASE_SECONDS: Final = 20.0
ROUND_SECONDS: Final = 5.0  # in which requests are begun
MOST_WAITING: Final = 10_000  # deliveries of a webhook; beyond it nothing is taken from the log
_BATCH: Final = 500
_AT_ONCE: Final = 32  # requests to one receiver
_RECORD_SECONDS: Final = 3.0  # at least as often, though nothing was delivered
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeliveryPorts:
    """What deliveries are made with; `slots` bounds the requests of this replica.

    `disable` is awaited for a webhook whose receiver has answered 410 Gone.
    """

    store: DeliveryStore
    log: ChangeLog
    follower: Follower
    secrets: WebhookSecrets
    sender: Sender
    slots: asyncio.Semaphore
    disable: Callable[[Webhook], Awaitable[None]]


class WebhookWorker:
    def __init__(self, ports: DeliveryPorts, webhook: Webhook, owner: str) -> None:
        self._ports = ports
        self._webhook = webhook
        self._owner = owner
        self._is_gone = False

    async def run(self, lease: Lease) -> None:
        """Deliver from the cursor of the lease on, until it is lost.

        Raises LeaseLost, and Unavailable after which nothing of the last round may be recorded.
        """
        recorded_at = monotonic()
        while True:
            result, next_due = await self._run_round(lease)
            is_busy = bool(result.attempts or result.kept or result.delivered)
            if is_busy or monotonic() - recorded_at > _RECORD_SECONDS:
                asked_at = monotonic()
                lease = await self._ports.store.record(
                    self._webhook.id, self._owner, result, LEASE_SECONDS
                )
                recorded_at = asked_at
            else:
                lease = replace(lease, cursor=result.cursor)
            if self._is_gone:
                _log.warning("webhook_gone", webhook=self._webhook.name)
                await self._ports.disable(self._webhook)
                self._is_gone = False
            has_more = self._ports.follower.revision > lease.cursor
            if not (is_busy or has_more) or lease.waiting >= MOST_WAITING:
                await self._ports.follower.wait_for_change(
                    min(_RECORD_SECONDS, _RECORD_SECONDS if next_due is None else next_due)
                )

    async def _run_round(self, lease: Lease) -> tuple[RoundResult, float | None]:
        """Send what waits and what is new; return the result, and in how long more is due."""
        ports, webhook = self._ports, self._webhook
        if not webhook.is_enabled:  # such changes are not delivered later
            return RoundResult(max(lease.cursor, ports.follower.revision)), None
        waiting = await ports.store.waiting(webhook.id, _BATCH) if lease.waiting else NOTHING_WAITS
        if lease.waiting < MOST_WAITING:
            cursor, fresh, gaps = await self._read_log(lease.cursor)
        else:
            cursor, fresh, gaps = lease.cursor, [], 0
        deliveries = Round(cursor, waiting, fresh)
        if waiting.due or fresh:
            await self._send_all(deliveries, await ports.secrets.open(webhook))
        return replace(deliveries.finish(), gaps=gaps), waiting.next_due

    async def _read_log(self, cursor: int) -> tuple[int, list[Delivery], int]:
        """Return how far the log was read, the deliveries of it, and 1 if it was trimmed before."""
        webhook, log = self._webhook, self._ports.log
        followed = self._ports.follower.revision
        if followed <= cursor:
            return cursor, [], 0
        # Not beyond what this replica has followed: a receiver that reads here at once gets it.
        page = [each for each in await log.since(cursor, _BATCH) if each.revision <= followed]
        if not page:
            return cursor, [], 0
        fresh = [delivery_of(each) for each in page if webhook.filter.selects(each.entity)]
        horizon = await log.horizon()  # after the page, or what is trimmed between is missed
        if horizon <= cursor:
            return page[-1].revision, fresh, 0
        _log.error("webhook_gap", webhook=webhook.name, cursor=cursor, horizon=horizon)
        gap = delivery_of_gap(webhook.id, webhook.name, horizon, datetime.now(UTC))
        return page[-1].revision, [gap, *fresh], 1

    async def _send_all(self, deliveries: Round, opened: OpenedWebhook) -> None:
        """Send what a round hands out, some at a time, until its time is over."""
        receiver = await self._locate(opened)
        ends_at = monotonic() + ROUND_SECONDS
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                while len(running) < _AT_ONCE and monotonic() < ends_at and not self._is_gone:
                    delivery = deliveries.take()
                    if delivery is None:
                        break
                    sending = self._send_one(deliveries, delivery, receiver, opened)
                    running.add(asyncio.create_task(sending))
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _locate(self, opened: OpenedWebhook) -> Receiver | Failure:
        try:
            return await self._ports.sender.locate(opened.url)
        except ReceiverUnreachable as error:
            return Failure(None, str(error))

    async def _send_one(
        self,
        deliveries: Round,
        delivery: Delivery,
        receiver: Receiver | Failure,
        opened: OpenedWebhook,
    ) -> None:
        if isinstance(receiver, Failure):
            answer = Answer(None, 0.0, receiver)
        else:
            async with self._ports.slots:
                answer = await send_message(
                    self._ports.sender, receiver, opened, self._webhook, delivery
                )
        outcome: Outcome = "delivered"
        if answer.failure is not None:
            outcome = "dead_letter" if is_given_up(delivery) else "failed"
        WEBHOOK_DELIVERIES.labels(outcome).inc()
        attempt = attempt_of(delivery, answer, outcome)
        if answer.failure is None:
            deliveries.record_success(delivery, attempt)
        else:
            deliveries.record_failure(delivery, answer.failure, attempt)
        self._is_gone = self._is_gone or answer.is_gone


async def send_message(
    sender: Sender,
    receiver: Receiver,
    opened: OpenedWebhook,
    webhook: Webhook,
    delivery: Delivery,
) -> Answer:
    """Send one delivery, signed now."""
    body = body_of(webhook.template, delivery.message)
    headers = signature_headers(opened.signing_keys(), delivery.id, int(time()), body)
    return await sender.send(receiver, headers, body)


def attempt_of(delivery: Delivery, answer: Answer, outcome: Outcome) -> Attempt:
    """Describe one request for the list of recent ones."""
    return Attempt(
        id=delivery.id,
        revision=delivery.revision,
        outcome=outcome,
        status=answer.status,
        reason="" if answer.failure is None else answer.failure.reason,
        seconds=round(answer.seconds, 4),
        attempt=delivery.attempts + 1,
        at=datetime.now(UTC),
    )
