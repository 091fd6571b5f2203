"""The use cases of deliveries: tried out, listed, and sent once more."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

from app.webhooks.errors import DeadLetterNotFound
from app.webhooks.messages import delivery_of_test
from app.webhooks.model import Attempt, DeadLetter, DeliveryState, NumberedAttempt, Webhook
from app.webhooks.rounds import Failure
from app.webhooks.secrets import WebhookSecrets
from app.webhooks.sender import Answer, ReceiverUnreachable, Sender
from app.webhooks.store.port import DeliveryStore
from app.webhooks.worker import attempt_of, send_message


class DeliveryService:
    def __init__(
        self,
        deliveries: DeliveryStore,
        secrets: WebhookSecrets,
        sender: Sender,
    ) -> None:
        self._deliveries = deliveries
        self._secrets = secrets
        self._sender = sender

    async def send_test(self, webhook: Webhook) -> Attempt:
        """Send a message of the type `pilothouse.webhook.test`, once; return what came of it."""
        opened = await self._secrets.open(webhook)
        delivery = delivery_of_test(str(uuid4()), webhook.name, datetime.now(UTC))
        try:
            receiver = await self._sender.locate(opened.url)
            answer = await send_message(self._sender, receiver, opened, webhook, delivery)
        except ReceiverUnreachable as error:
            answer = Answer(None, 0.0, Failure(None, str(error)))
        attempt = attempt_of(delivery, answer, "delivered" if answer.failure is None else "failed")
        await self._deliveries.record_attempt(webhook.id, attempt)
        return attempt

    async def state(self, webhook: Webhook) -> DeliveryState | None:
        """Return how far the deliveries of a webhook are; None while it has just been created."""
        states = await self._deliveries.states()
        return next((each for each in states if each.webhook_id == webhook.id), None)

    async def attempts(
        self, webhook: Webhook, limit: int, before: int | None
    ) -> Sequence[NumberedAttempt]:
        """Return recent requests to the receiver, newest first."""
        return await self._deliveries.attempts(webhook.id, limit, before)

    async def dead_letters(
        self, webhook: Webhook, limit: int, after: tuple[int, str] | None
    ) -> Sequence[DeadLetter]:
        """Return deliveries that were given up, by revision."""
        return await self._deliveries.dead_letters(webhook.id, limit, after)

    async def resend(self, webhook: Webhook, message_id: str | None = None) -> int:
        """Try one dead letter, or all, once more; return how many; raises DeadLetterNotFound."""
        count = await self._deliveries.resend(webhook.id, message_id)
        if message_id is not None and not count:
            raise DeadLetterNotFound(message_id)
        return count
