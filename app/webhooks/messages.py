"""The bodies of deliveries: the change as a CloudEvent, or a text for a chat. Pure."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, get_args

from app.changes.events.cloudevents import SOURCE, event_of
from app.changes.model import Change
from app.webhooks.errors import WebhookInvalid
from app.webhooks.model import Delivery, service_of
from pilothouse_core.rendering import (
    BadTemplate,
    RenderingTooLarge,
    check_template,
    render,
    used_parameters,
)

Preset = Literal["event", "slack", "teams", "text"]
PRESETS: Final = get_args(Preset)
PLACEHOLDERS: Final = frozenset(
    {
        "id",
        "type",
        "time",
        "subject",
        "kind",
        "environment",
        "name",
        "service",
        "action",
        "version",
        "revision",
        "actor",
        "comment",
    }
)
MOST_TEMPLATE_BYTES: Final = 16 * 1024
# What these chats read as markup or mentions: `<!channel>` in a comment would alert all.
_MARKUP: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def delivery_of(change: Change) -> Delivery:
    """Return the delivery of a change; the id of the change is that of the message."""
    return Delivery(change.id, change.revision, change.entity.key, event_of(change).value.decode())


def delivery_of_test(message_id: str, webhook: str, at: datetime) -> Delivery:
    """Return a delivery that shows whether a receiver can be reached."""
    message = _message(message_id, "webhook.test", webhook, at, {"webhook": webhook})
    return Delivery(message_id, 0, "test", message)


def delivery_of_gap(webhook_id: str, webhook: str, horizon: int, at: datetime) -> Delivery:
    """Return a delivery that says that changes up to `horizon` may be missing.

    Its id is the same, whichever replica finds the gap.
    """
    message_id = f"gap-{webhook_id}-{horizon}"
    message = _message(message_id, "log.reset", webhook, at, {"revision": horizon})
    return Delivery(message_id, horizon, "gap", message)


def _message(
    message_id: str, kind: str, subject: str, at: datetime, data: Mapping[str, object]
) -> str:
    return json.dumps(
        {
            "specversion": "1.0",
            "id": message_id,
            "source": SOURCE,
            "type": f"pilothouse.{kind}",
            "subject": subject,
            "time": at.isoformat(),
            "datacontenttype": "application/json",
            "data": data,
        },
        separators=(",", ":"),
    )


def check_body_template(template: Any) -> None:
    """Raise WebhookInvalid unless this is a preset, or an object with known placeholders only."""
    if isinstance(template, str):
        if template not in PRESETS:
            raise WebhookInvalid("/template", f"the presets are {', '.join(PRESETS)}")
        return
    if len(json.dumps(template).encode()) > MOST_TEMPLATE_BYTES:
        raise WebhookInvalid("/template", f"more than {MOST_TEMPLATE_BYTES} bytes")
    try:
        check_template(template, PLACEHOLDERS)
    except BadTemplate as error:
        raise WebhookInvalid(f"/template{error.pointer}", error.reason) from None
    if not used_parameters(template, PLACEHOLDERS):
        known = ", ".join(f"${{{name}}}" for name in sorted(PLACEHOLDERS))
        raise WebhookInvalid("/template", f"no placeholder is used; there are {known}")


def body_of(template: Any, message: str) -> bytes:
    """Return the body that is sent for a message."""
    if template == "event":
        return message.encode()
    values = _placeholder_values(json.loads(message))
    if isinstance(template, str):
        if template != "text":
            values = {name: _without_markup(value) for name, value in values.items()}
        return _json({"text": _summary(values)})
    try:
        return _json(render(template, values, PLACEHOLDERS))
    except RenderingTooLarge:  # a long comment in many places
        return _json(render(template, {**values, "comment": ""}, PLACEHOLDERS))


def _json(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _placeholder_values(event: Mapping[str, Any]) -> dict[str, Any]:
    data = event["data"]
    kind = str(data.get("kind", ""))
    named = {name: data.get(name, "") for name in PLACEHOLDERS & data.keys()}
    return {
        **dict.fromkeys(PLACEHOLDERS, ""),
        **named,
        **{name: event[name] for name in ("id", "type", "time", "subject")},
        "service": service_of(kind, str(data.get("name", ""))) or "",
    }


def _without_markup(value: Any) -> Any:
    return value.translate(_MARKUP) if isinstance(value, str) else value


def _summary(values: Mapping[str, Any]) -> str:
    """Return one sentence about a change."""
    if not values["kind"]:
        return f"Pilothouse: {values['type']} for {values['subject']}"
    why = f": {values['comment']}" if values["comment"] else ""
    return (
        f"{values['kind']} {values['subject']} was {values['action'].replace('_', ' ')} by "
        f"{values['actor']}, version {values['version']}{why}"
    )
