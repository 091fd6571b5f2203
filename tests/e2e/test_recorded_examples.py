"""The examples of the OpenAPI document are what the service answers today."""

import json

import pytest

from tests.docs.record_examples import FILE, record_examples, shape


@pytest.mark.slow
def test_the_committed_examples_are_what_the_service_answers() -> None:
    committed = json.loads(FILE.read_text(encoding="utf-8"))

    assert shape(record_examples()) == shape(committed), "run `make docs`"
