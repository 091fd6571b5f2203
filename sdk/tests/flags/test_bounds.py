"""Contexts and texts that are too large are treated here as the service treats them."""

import logging
from typing import Any

import pytest
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode

from pilothouse.flags import Flags
from pilothouse.flags.state import FlagState, apply_update
from pilothouse.openfeature import PilothouseProvider
from pilothouse_core.contexts import MAX_CONTEXT_BYTES

CONTAINS = {"attribute": "a", "op": "contains", "values": ["a"]}
FRAME = len('{"a":""}')


class Client:
    def __init__(self) -> None:
        definition = {
            "name": "f",
            "version": 1,
            "type": "boolean",
            "variants": {"on": True, "off": False},
            "default_variant": "off",
            "off_variant": "off",
            "enabled": True,
            "rules": [{"id": "r", "when": CONTAINS, "serve": {"variant": "on"}}],
        }
        body: Any = {"revision": 1, "flags": [definition], "segments": []}
        self.flags = Flags()
        self.flags.swap(apply_update(FlagState(), body, "service", ""))


def test_a_context_of_64_kib_is_evaluated_and_a_larger_one_is_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    flags = Client().flags
    size = MAX_CONTEXT_BYTES - FRAME

    inside = flags.details("f", default=True, a="b" * size)
    with caplog.at_level(logging.WARNING, logger="pilothouse"):
        outside = flags.details("f", default=True, a="b" * (size + 1))

    assert (inside.value, inside.error_code) == (False, None)
    assert (outside.value, outside.error_code) == (True, "INVALID_CONTEXT")
    assert "65536 bytes" in str(outside.error_message)
    assert "INVALID_CONTEXT" in caplog.text
    assert flags.is_on("f", default=True, a=["b"] * 20_000)
    assert not flags.is_on("f", user_id="u" * MAX_CONTEXT_BYTES)


def test_a_text_of_4096_characters_is_compared_and_a_longer_one_is_not() -> None:
    flags = Client().flags

    assert [flags.is_on("f", a="a" * size) for size in (4096, 4097)] == [True, False]


def test_openfeature_is_told_that_the_context_is_invalid() -> None:
    provider = PilothouseProvider(Client())
    context = EvaluationContext("u", {"a": "a" * MAX_CONTEXT_BYTES})

    details = provider.resolve_boolean_details("f", default_value=True, evaluation_context=context)

    assert (details.value, details.error_code) == (True, ErrorCode.INVALID_CONTEXT)
