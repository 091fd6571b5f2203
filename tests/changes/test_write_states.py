"""The state of a write, as the API answers it."""

from dataclasses import replace
from typing import get_args

import pytest

from app.changes.model import IntentState
from app.feed.schemas import WriteStateOut
from tests.contracts.changes.changing import intent


@pytest.mark.parametrize("state", get_args(IntentState))
def test_a_write_is_open_until_it_is_decided(state: IntentState) -> None:
    shown = WriteStateOut.of(replace(intent(), state=state)).state

    assert shown == (state if state in {"applied", "lost"} else "open")
