"""Signatures and bodies of messages, compared with the library of Standard Webhooks."""

import base64
import json
from datetime import UTC, datetime
from time import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from app.changes.model import Change, Entity
from app.webhooks.errors import WebhookInvalid
from app.webhooks.messages import (
    PLACEHOLDERS,
    PRESETS,
    body_of,
    check_body_template,
    delivery_of,
    delivery_of_gap,
    delivery_of_test,
)
from app.webhooks.model import Filter
from app.webhooks.signing import BadSecret, create_secret, read_key, signature_headers


@given(key=st.binary(min_size=24, max_size=64), body=st.text(), message_id=st.uuids())
def test_the_library_of_the_standard_accepts_what_is_signed(
    key: bytes, body: str, message_id: object
) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    text = json.dumps(body)

    headers = signature_headers(
        [read_key(create_secret()), read_key(secret)], str(message_id), int(time()), text.encode()
    )

    assert Webhook(secret).verify(text, headers) == body


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        "whsec_not base64",
        "whsec_\xe9",
        base64.b64encode(b"x" * 32).decode(),
    ],
)
def test_what_is_no_secret_of_the_standard_is_refused(secret: str) -> None:
    with pytest.raises(BadSecret):
        read_key(secret)


def change(comment: str = "", kind: str = "config", name: str = "billing") -> Change:
    entity = Entity(kind, "production", name, f"{kind}s/production/{name}")
    return Change(7, "c1", entity, 3, "rolled_back", "token:ci#id1", comment, datetime.now(UTC))


@given(comment=st.text(max_size=1000), preset=st.sampled_from(PRESETS))
def test_every_body_is_json_whatever_a_comment_says(comment: str, preset: str) -> None:
    body = json.loads(body_of(preset, delivery_of(change(comment)).message))

    if preset == "event":
        assert body["data"]["comment"] == comment
    elif preset == "text":
        assert body["text"].endswith(f"version 3: {comment}" if comment else "version 3")
    else:
        assert not set("<>") & set(body["text"])


@given(comment=st.text(max_size=1000), times=st.integers(1, 1200))
def test_a_template_that_would_become_too_long_leaves_the_comment_out(
    comment: str, times: int
) -> None:
    template = {"t": "${comment}" * times}
    check_body_template(template)

    text = json.loads(body_of(template, delivery_of(change(comment)).message))["t"]

    assert text in {comment * times, ""}


def test_every_placeholder_has_a_value_for_every_message() -> None:
    template = {name: f"${{{name}}}" for name in PLACEHOLDERS}
    at = datetime.now(UTC)

    for delivery in (
        delivery_of(change("why")),
        delivery_of(change(kind="flag", name="new-pool")),
        delivery_of_test("t1", "releases", at),
        delivery_of_gap("w1", "releases", 12, at),
    ):
        body = json.loads(body_of(template, delivery.message))
        assert body.keys() == PLACEHOLDERS
        assert body["id"] == delivery.id
    assert json.loads(body_of(template, delivery_of(change("why")).message))["service"] == "billing"


@pytest.mark.parametrize(
    "template",
    [
        "",
        "discord",
        {},
        {"a": 1},
        {"a": "${nothing}"},
        {"a": {"$param": "secret"}},
        {"a": "x" * 20_000},
    ],
)
def test_a_template_without_known_places_is_refused(template: object) -> None:
    with pytest.raises(WebhookInvalid):
        check_body_template(template)


@pytest.mark.parametrize(
    ("kind", "environment", "name", "is_selected"),
    [
        ("config", "prod-eu", "billing", True),
        ("config", "prod-eu", "billing/ana", True),
        ("config", "prod-eu", "shop", False),
        ("config", "staging", "billing", False),
        ("instance", "prod-eu", "billing/i-1", True),
        ("release", "prod-eu", "*/r-1", False),
        ("flag", "prod-eu", "new-pool", True),
        ("segment", "prod-eu", "testers", False),
    ],
)
def test_a_filter_selects_by_kind_environment_and_service(
    kind: str, environment: str, name: str, *, is_selected: bool
) -> None:
    selected = Filter(frozenset({"config", "instance", "flag", "release"}), ("prod-*",), ("bill*",))

    assert selected.selects(Entity(kind, environment, name, "")) is is_selected
