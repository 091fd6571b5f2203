"""What is wrong with a webhook, and what prevents a delivery."""

from collections.abc import Iterable

from app.errors import Conflict, Invalid, NotFound, PreconditionFailed, Unavailable
from pilothouse_core.names import NAME_GRAMMAR
from pilothouse_core.suggestions import did_you_mean


class WebhookInvalid(Invalid):
    """The webhook cannot be used; `pointer` is the place in its body."""

    code = "bad_webhook"

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(f"the webhook cannot be used: {reason}")
        self.pointer, self.reason = pointer, reason
        self.flaws = ({"pointer": f"#{pointer}", "detail": reason, "code": self.code},)


class BadWebhookName(Invalid):
    code = "bad_webhook_name"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name[:80]!r} is not a valid name of a webhook: {NAME_GRAMMAR}")


class TooManyWebhooks(Conflict):
    code = "too_many_webhooks"

    def __init__(self, most: int) -> None:
        super().__init__(f"there are {most} webhooks, and no more can be created")


class WebhookNotFound(NotFound):
    code = "webhook_not_found"

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        """`known`: the names of the existing webhooks."""
        super().__init__(
            f"there is no webhook {name[:80]!r}{did_you_mean(name[:80], known)}", name=name[:80]
        )


class DeadLetterNotFound(NotFound):
    code = "dead_letter_not_found"

    def __init__(self, message_id: str) -> None:
        super().__init__(f"the webhook has no dead letter {message_id[:80]!r}")


class StaleWebhook(PreconditionFailed):
    code = "stale_webhook"

    def __init__(self, name: str, version: int) -> None:
        super().__init__(
            f"the webhook {name!r} is at version {version}; read it again", version=version
        )


class DeliveriesUnavailable(Unavailable):
    """The store of deliveries does not answer."""

    code = "deliveries_unavailable"


class LeaseLost(Exception):
    """Another replica delivers for this webhook now; nothing was recorded. No caller sees it."""
