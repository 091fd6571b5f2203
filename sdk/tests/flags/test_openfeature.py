"""The provider, asked through OpenFeature's own SDK."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagEvaluationDetails, Reason
from openfeature.hook import Hook, HookContext
from openfeature.provider import ProviderStatus

from pilothouse import Pilothouse, RefreshPolicy
from pilothouse.openfeature import PilothouseProvider
from pilothouse.testing import FakePilothouse
from sdk.tests.scripted import ScriptedServer, configuration, flag_set, problem
from tests.servers.process import wait_until

QUICK = RefreshPolicy(backoff=0.01, longest_backoff=0.05, poll_interval=0.02, mode="polling")
ANA = EvaluationContext("ana")


@pytest.fixture
def fake() -> FakePilothouse:
    return FakePilothouse(
        flags={
            "boolean": True,
            "string": "blue",
            "integer": 7,
            "number": 0.5,
            "object": {"a": [1]},
            "list": [1, 2],
        }
    )


@pytest.fixture
def client(fake: FakePilothouse) -> Iterator[OpenFeatureClient]:
    api.set_provider_and_wait(PilothouseProvider(fake), "pilothouse")
    yield api.get_client("pilothouse")
    api.shutdown()
    api.clear_providers()


def rollout(by: str) -> dict[str, Any]:
    weights = {"on": 50, "off": 50}
    return {"id": "share", "serve": {"rollout": {"by": by, "weights": weights}}}


def switch(name: str, *rules: Any, **more: Any) -> dict[str, Any]:
    variants = {"on": True, "off": False}
    head = {"name": name, "type": "boolean", "variants": variants, "enabled": True}
    return {**head, "default_variant": "off", "off_variant": "off", "rules": list(rules), **more}


def test_each_type_is_answered_and_no_other(client: OpenFeatureClient) -> None:
    evaluators: dict[str, Any] = {
        "boolean": (client.get_boolean_details, False, True),
        "string": (client.get_string_details, "", "blue"),
        "integer": (client.get_integer_details, 0, 7),
        "number": (client.get_float_details, 0.0, 0.5),
        "object": (client.get_object_details, {}, {"a": [1]}),
    }
    for kind, (ask, _, value) in evaluators.items():
        details = ask(kind, evaluators[kind][1])
        assert (details.value, details.variant, details.reason) == (value, "on", Reason.STATIC)
        for other, (ask_other, default, _) in evaluators.items():
            if other != kind:
                refused = ask_other(kind, default)
                assert refused.error_code == ErrorCode.TYPE_MISMATCH
                assert refused.value == default
    assert client.get_object_value("list", []) == [1, 2]


async def test_the_asynchronous_calls_answer_the_same(client: OpenFeatureClient) -> None:
    assert await client.get_boolean_value_async("boolean", default_value=False) is True
    assert (await client.get_integer_details_async("integer", 0)).value == 7


def test_a_missing_flag_and_a_missing_key_are_named(
    client: OpenFeatureClient, fake: FakePilothouse
) -> None:
    fake.define_flag(switch("share", rollout("user_id")))

    missing = client.get_boolean_details("nowhere", default_value=True)
    keyless = client.get_boolean_details("share", default_value=True)

    assert (missing.value, missing.reason) == (True, Reason.ERROR)
    assert missing.error_code == ErrorCode.FLAG_NOT_FOUND
    assert (keyless.value, keyless.error_code) == (True, ErrorCode.TARGETING_KEY_MISSING)


def test_the_targeting_key_goes_by_both_names(
    client: OpenFeatureClient, fake: FakePilothouse
) -> None:
    fake.define_flag(switch("one", rollout("user_id")))
    fake.define_flag(switch("two", rollout("targetingKey")))

    for name in ("one", "two"):
        details = client.get_boolean_details(name, default_value=True, evaluation_context=ANA)
        own_details = fake.flags.details(name, user_id="ana")
        assert details.reason == Reason.SPLIT
        assert details.value == own_details.value
        assert details.flag_metadata == {
            "flagVersion": 1,
            "revision": fake.flags.revision,
            "ruleId": "share",
            "bucket": own_details.bucket,
        }


def test_attributes_are_seen_as_json_would_carry_them(
    client: OpenFeatureClient, fake: FakePilothouse
) -> None:
    late = {"attribute": "at", "op": "after", "values": ["2026-01-01T00:00:00Z"]}
    listed = {"attribute": "plans", "op": "includes", "values": ["gold"]}
    rule = {"id": "rule", "when": {"all": [late, listed]}, "serve": {"variant": "on"}}
    fake.define_flag(switch("new", rule))

    context = EvaluationContext("ana", {"at": datetime(2027, 1, 1, tzinfo=UTC), "plans": ("gold",)})

    details = client.get_boolean_details("new", default_value=False, evaluation_context=context)
    assert (details.value, details.reason) == (True, Reason.TARGETING_MATCH)
    assert client.get_boolean_value("new", default_value=False, evaluation_context=ANA) is False


def test_a_code_default_is_no_error(client: OpenFeatureClient, fake: FakePilothouse) -> None:
    fake.define_flag(switch("new", enabled=False, off_variant=None))

    details = client.get_boolean_details("new", default_value=True)

    assert (details.value, details.variant, details.reason) == (True, None, Reason.DISABLED)
    assert details.error_code is None


def test_a_code_default_of_a_flag_without_rules_has_the_reason_default(
    client: OpenFeatureClient, fake: FakePilothouse
) -> None:
    fake.define_flag(switch("new", default_variant=None))

    details = client.get_boolean_details("new", default_value=True)

    assert (details.value, details.variant, details.reason) == (True, None, Reason.DEFAULT)


def test_tags_with_a_value_are_metadata(client: OpenFeatureClient, fake: FakePilothouse) -> None:
    tags = ["plain", "team=blue", "n=2", "half=0.5", "on=true", 'text="2"', "flagVersion=9", "=x"]
    fake.define_flag({**switch("new"), "tags": tags})

    metadata = client.get_boolean_details("new", default_value=True).flag_metadata

    assert metadata == {
        "team": "blue",
        "n": 2,
        "half": 0.5,
        "on": True,
        "text": "2",
        "flagVersion": 1,
        "revision": fake.flags.revision,
    }


class Recorder(Hook):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def before(self, hook_context: HookContext, hints: Any) -> None:  # noqa: ARG002
        self.seen.append(hook_context.flag_key)

    def after(
        self,
        hook_context: HookContext,  # noqa: ARG002
        details: FlagEvaluationDetails[Any],
        hints: Any,  # noqa: ARG002
    ) -> None:
        self.seen.append(details.value)


def test_hooks_run_as_always(client: OpenFeatureClient) -> None:
    recorder = Recorder()
    client.add_hooks([recorder])

    client.get_boolean_value("boolean", default_value=False)

    assert recorder.seen == ["boolean", True]
    assert client.provider.get_provider_hooks() == []
    assert client.provider.get_metadata().name == "pilothouse"


def test_a_change_is_told_by_name(client: OpenFeatureClient, fake: FakePilothouse) -> None:
    heard: Queue[EventDetails] = Queue()
    client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, heard.put)

    fake.set_flag("string", "red")

    assert heard.get(timeout=30).flags_changed == ["string"]
    api.shutdown()
    fake.set_flag("string", "blue")
    assert heard.empty()


def test_a_service_away_makes_the_provider_stale_until_it_is_back(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.answers["/api/v1/effective"] = lambda _: configuration({})
    scripted_server.answers["/api/v1/flag-set"] = lambda _: flag_set(
        {**switch("new"), "version": 1}
    )
    heard: Queue[str] = Queue()
    with Pilothouse(scripted_server.url, "orders", pace=QUICK) as pilothouse:
        api.set_provider_and_wait(PilothouseProvider(pilothouse), "real")
        client = api.get_client("real")
        client.add_handler(ProviderEvent.PROVIDER_STALE, lambda _: heard.put("stale"))
        assert client.get_provider_status() == ProviderStatus.READY
        scripted_server.answers["/api/v1/flag-set"] = lambda _: problem(503, "away")

        assert heard.get(timeout=30) == "stale"
        assert client.get_provider_status() == ProviderStatus.STALE
        assert client.get_boolean_details("new", default_value=True).value is False
        scripted_server.answers["/api/v1/flag-set"] = lambda _: flag_set(
            {**switch("new"), "version": 1}
        )
        wait_until(lambda: client.get_provider_status() == ProviderStatus.READY, "it is ready")
        api.shutdown()
    api.clear_providers()


def test_without_any_flags_the_provider_is_not_ready_until_there_are_some(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.answers["/api/v1/effective"] = lambda _: configuration({})
    scripted_server.answers["/api/v1/flag-set"] = lambda _: problem(503, "away")
    with Pilothouse(scripted_server.url, "orders", pace=QUICK, start_timeout=0.1) as pilothouse:
        with pytest.raises(ProviderNotReadyError):
            api.set_provider_and_wait(PilothouseProvider(pilothouse), "late")
        client = api.get_client("late")
        details = client.get_boolean_details("new", default_value=True)
        assert (details.value, details.error_code) == (True, ErrorCode.PROVIDER_NOT_READY)
        assert pilothouse.flags.details("new").error_code == "PROVIDER_NOT_READY"

        scripted_server.answers["/api/v1/flag-set"] = lambda _: flag_set(
            {**switch("new"), "version": 1}
        )
        wait_until(lambda: client.get_provider_status() == ProviderStatus.READY, "it is ready")
        assert client.get_boolean_details("new", default_value=True).value is False
        api.shutdown()
    api.clear_providers()


def test_what_began_from_the_snapshot_is_stale(
    scripted_server: ScriptedServer, tmp_path: Path
) -> None:
    scripted_server.answers["/api/v1/effective"] = lambda _: configuration({})
    scripted_server.answers["/api/v1/flag-set"] = lambda _: flag_set(
        {**switch("new"), "version": 1}
    )
    more: dict[str, Any] = {"snapshot": tmp_path / "snapshot", "pace": QUICK, "start_timeout": 2}
    with Pilothouse(scripted_server.url, "orders", **more):
        pass
    scripted_server.answers["/api/v1/flag-set"] = lambda _: problem(503, "away")
    with Pilothouse(scripted_server.url, "orders", **more) as pilothouse:
        assert pilothouse.flags.source == "snapshot"
        api.set_provider_and_wait(PilothouseProvider(pilothouse), "cold")
        client = api.get_client("cold")

        wait_until(lambda: client.get_provider_status() == ProviderStatus.STALE, "it is stale")
        assert client.get_boolean_details("new", default_value=True).value is False
        api.shutdown()
    api.clear_providers()
