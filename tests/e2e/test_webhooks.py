"""Webhooks over HTTP: what changes is delivered, signed, in order and at least once."""

from collections.abc import Iterator
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.e2e.client import Layer, Service, body_of, fresh_name
from tests.servers.answer import Answer
from tests.servers.process import wait_until
from tests.servers.receiver import Arrival, Receiver, Reply

WEBHOOKS = "/api/v1/webhooks"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


class Hook:
    """One webhook that tells of one environment, which is deleted at the end."""

    def __init__(self, service: Service, receiver: Receiver, environment: str) -> None:
        self.service = service
        self.name = fresh_name("w")
        self.body: dict[str, Any] = {
            "url": receiver.url(f"/{self.name}"),
            "kinds": ["config", "flag"],
            "environments": [environment],
        }

    @property
    def path(self) -> str:
        return f"{WEBHOOKS}/{self.name}"

    def put(self, **members: Any) -> Answer:
        self.body = {**self.body, **members}
        return self.service.call("PUT", self.path, self.body)

    def get(self) -> Any:
        return body_of(self.service.get(self.path))

    def deliveries(self) -> Any:
        return body_of(self.service.get(f"{self.path}/deliveries"))["items"]

    def wait_until_state(self, **members: Any) -> None:
        wait_until(
            lambda: members.items() <= (self.get()["state"] or {}).items(),
            f"its state is {members}",
        )


@pytest.fixture
def hook(service: Service, receiver: Receiver, layer: Layer) -> Iterator[Hook]:
    hook = Hook(service, receiver, layer.environment)
    yield hook
    service.call("DELETE", hook.path)


def names(arrivals: list[Arrival]) -> list[str]:
    return [each.event()["data"]["name"] for each in arrivals]


def test_a_change_is_delivered_as_an_event_without_values(
    hook: Hook, receiver: Receiver, layer: Layer
) -> None:
    secret = body_of(hook.put(), 201)["secret"]

    body_of(layer.create("pool", "forty-two", comment="more"), 201)

    (arrival,) = receiver.wait_for(lambda all_: len(all_) >= 1)
    event = Webhook(secret).verify(arrival.body, dict(arrival.headers))
    assert event["type"] == "pilothouse.config.created"
    assert event["data"]["environment"] == layer.environment
    assert event["data"]["name"] == layer.service
    assert event["data"]["comment"] == "more"
    assert event["id"] == arrival.id
    assert arrival.headers["content-type"] == "application/json"
    assert b"forty-two" not in arrival.body


def test_a_secret_is_shown_once_and_kept_nowhere_in_the_clear(hook: Hook, service: Service) -> None:
    created = hook.put()
    secret = body_of(created, 201)["secret"]
    assert secret.startswith("whsec_")
    assert created.headers["Cache-Control"] == "no-store"

    again = body_of(hook.put())

    assert (again["secret"], again["changed"], again["version"]) == (None, False, 1)
    assert "secret" not in hook.get()
    listed = body_of(service.get(WEBHOOKS, limit=1000))
    assert secret not in str(listed)
    stored = service.backend.stored_bytes()
    for hidden in (secret, secret.removeprefix("whsec_"), hook.body["url"]):
        assert hidden.encode() not in stored
        assert hidden not in service.process.log()


def test_after_a_new_secret_both_sign(hook: Hook, receiver: Receiver, layer: Layer) -> None:
    first = body_of(hook.put(), 201)["secret"]
    second = "whsec_" + "bmV3IHNlY3JldCBvZiB0aGlydHktdHdvIGJ5dGVzISE="
    rotated = body_of(hook.put(secret=second))
    assert rotated["former_secret_until"] is not None
    assert rotated["secret"] is None

    body_of(layer.create("pool", 1), 201)

    (arrival,) = receiver.wait_for(lambda all_: len(all_) >= 1)
    assert len(arrival.headers["webhook-signature"].split()) == 2
    for secret in (first, second):
        Webhook(secret).verify(arrival.body, dict(arrival.headers))


def test_only_what_the_filters_select_is_delivered(
    hook: Hook, receiver: Receiver, layer: Layer
) -> None:
    other = layer.at(service=fresh_name())
    elsewhere = layer.at(environment=fresh_name("e"))
    body_of(hook.put(services=[layer.service], kinds=["config"]), 201)

    body_of(other.create("a", 1), 201)
    body_of(elsewhere.create("a", 1), 201)
    body_of(layer.create("a", 1), 201)

    body_of(layer.put("a", 2))
    arrivals = receiver.wait_for(lambda all_: len(all_) >= 2)
    assert names(arrivals) == [layer.service] * 2


def test_changes_of_one_document_arrive_in_order_although_some_fail(
    hook: Hook, receiver: Receiver, layer: Layer
) -> None:
    other = layer.at(service=fresh_name())
    failing = iter([500, 503])

    def reply(arrival: Arrival) -> Reply:
        if arrival.event()["data"]["name"] == layer.service:
            return Reply(next(failing, 200))
        return Reply()

    receiver.reply = reply
    body_of(hook.put(), 201)
    body_of(layer.create("a", 0), 201)
    for number in range(1, 6):
        body_of(layer.put("a", number))
    body_of(other.create("a", 1), 201)

    receiver.wait_for(lambda all_: sum(200 <= each.status < 300 for each in all_) >= 7)

    accepted = [each.event()["data"] for each in receiver.successes]
    assert [each["version"] for each in accepted if each["name"] == layer.service] == [
        1, 2, 3, 4, 5, 6,
    ]  # fmt: skip
    first_other = names(receiver.successes).index(other.service)
    assert first_other < len(accepted) - 1  # it did not wait for the one that failed
    failed = [each for each in hook.deliveries() if each["outcome"] == "failed"]
    assert {each["status"] for each in failed} == {500, 503}
    assert len({each["id"] for each in failed}) == 1
    hook.wait_until_state(waiting=0, dead_letters=0)


def test_a_receiver_that_is_gone_disables_the_webhook(
    hook: Hook, receiver: Receiver, layer: Layer
) -> None:
    receiver.reply = lambda _: Reply(410)
    body_of(hook.put(), 201)

    body_of(layer.create("a", 1), 201)

    wait_until(lambda: not hook.get()["enabled"], "it is disabled")
    assert hook.get()["comment"] == "the receiver has answered 410 Gone"
    assert hook.get()["updated_by"] == "webhooks"


def test_a_test_message_shows_whether_the_receiver_answers(
    hook: Hook, receiver: Receiver, service: Service
) -> None:
    secret = body_of(hook.put(), 201)["secret"]

    delivered = body_of(service.call("POST", f"{hook.path}/test"))
    receiver.reply = lambda _: Reply(302, headers={"Location": receiver.url("/elsewhere")})
    failed = body_of(service.call("POST", f"{hook.path}/test"))

    assert (delivered["outcome"], delivered["status"]) == ("delivered", 204)
    assert (failed["outcome"], failed["status"]) == ("failed", 302)
    first, second = receiver.arrivals
    assert Webhook(secret).verify(first.body, dict(first.headers))["type"] == (
        "pilothouse.webhook.test"
    )
    assert second.path == f"/{hook.name}"  # the redirect was not followed
    assert [each["id"] for each in hook.deliveries()] == [failed["id"], delivered["id"]]


@pytest.mark.parametrize("preset", ["slack", "teams", "text"])
def test_a_chat_gets_a_sentence(hook: Hook, receiver: Receiver, layer: Layer, preset: str) -> None:
    body_of(hook.put(template=preset), 201)

    body_of(layer.create("a", 1, comment='<!channel> "now" & here'), 201)

    (arrival,) = receiver.wait_for(lambda all_: len(all_) >= 1)
    text = arrival.event()["text"]
    subject = f"{layer.environment}/{layer.service}"
    assert text.startswith(f"config {subject} was created by ")
    assert ("<!channel>" in text) is (preset == "text")


def test_a_template_of_ones_own_has_places_for_what_changed(
    hook: Hook, receiver: Receiver, layer: Layer
) -> None:
    template = {
        "blocks": [{"text": "${service}: ${comment}", "version": {"$param": "version"}}],
        "plain": "${HOME}",
    }
    body_of(hook.put(template=template), 201)

    body_of(layer.create("a", 1, comment='a "quoted" \\ one'), 201)

    (arrival,) = receiver.wait_for(lambda all_: len(all_) >= 1)
    assert arrival.event() == {
        "blocks": [{"text": f'{layer.service}: a "quoted" \\ one', "version": 1}],
        "plain": "${HOME}",
    }


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"secret": "whsec_c2hvcnQ="}, "#/secret"),
        ({"secret": "not-a-secret-of-the-standard"}, "#/secret"),
        ({"url": "ftp://example.org/"}, "#/url"),
        ({"url": "http://169.254.169.254/latest"}, "#/url"),
        ({"url": "http://user:word@example.org/"}, "#/url"),
        ({"template": "discord"}, "#/template"),
        ({"template": {"text": "nothing"}}, "#/template"),
        ({"template": {"text": {"$param": "password"}}}, "#/template/text/$param"),
    ],
)
def test_what_cannot_be_delivered_is_refused(
    hook: Hook, members: dict[str, Any], pointer: str
) -> None:
    problem = body_of(hook.put(**members), 422)

    assert problem["code"] == "bad_webhook"
    assert [each["pointer"] for each in problem["errors"]] == [pointer]


def test_a_stale_version_is_refused_and_a_deleted_webhook_is_gone(
    hook: Hook, service: Service
) -> None:
    body_of(hook.put(), 201)

    stale = service.call("PUT", hook.path, hook.body, headers={"If-Match": '"7"'})
    assert body_of(stale, 412)["code"] == "stale_webhook"
    assert service.call("DELETE", hook.path).status == 204
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/deliveries"), ("POST", "/test")):
        assert body_of(service.call(method, hook.path + path), 404)["code"] == "webhook_not_found"
    answer = service.call("POST", f"{WEBHOOKS}/{hook.name}/dead-letters/resend")
    assert body_of(answer, 404)["code"] == "webhook_not_found"


def test_a_webhook_that_is_created_again_starts_with_the_present(
    hook: Hook, receiver: Receiver, layer: Layer, service: Service
) -> None:
    body_of(hook.put(), 201)
    assert service.call("DELETE", hook.path).status == 204
    body_of(layer.create("a", 1), 201)

    body_of(hook.put(), 201)
    body_of(layer.put("a", 2))

    (arrival,) = receiver.wait_for(lambda all_: len(all_) >= 1)
    assert arrival.event()["data"]["version"] == 2


def test_what_changes_while_it_is_disabled_is_not_delivered(
    hook: Hook, receiver: Receiver, layer: Layer
) -> None:
    body_of(hook.put(enabled=False), 201)
    revision = int(layer.create("a", 1).headers["X-Revision"])
    wait_until(lambda: (hook.get()["state"] or {}).get("revision", 0) >= revision, "it is passed")

    body_of(hook.put(enabled=True))
    body_of(layer.put("a", 2))

    (arrival,) = receiver.wait_for(lambda all_: len(all_) >= 1)
    assert arrival.event()["data"]["version"] == 2


def test_health_and_metrics_count_deliveries(
    hook: Hook, receiver: Receiver, layer: Layer, service: Service
) -> None:
    before = service.metric('pilothouse_webhook_deliveries_total{outcome="delivered"}')
    body_of(hook.put(), 201)

    body_of(layer.create("a", 1), 201)

    receiver.wait_for(lambda all_: len(all_) >= 1)
    wait_until(
        lambda: service.metric('pilothouse_webhook_deliveries_total{outcome="delivered"}') > before,
        "it is counted",
    )
    wait_until(lambda: body_of(service.get("/health"))["webhooks"] >= 1, "health tells of it")
