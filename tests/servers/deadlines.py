"""How long the service waits for its servers while it is tested: the only place that says so.

A busy machine stands still at times, and a test that is not about a deadline must not fail by one.
Those that are, set the settings of production.
"""

from collections.abc import Mapping
from typing import Final

from app.settings import Settings

PATIENT_SECONDS: Final = 10.0  # two calls to Vault in a write stay below what a test waits for
_NAMES: Final = tuple(name for name in Settings.model_fields if name.endswith("_timeout_seconds"))
PATIENT: Final[Mapping[str, str]] = {name.upper(): f"{PATIENT_SECONDS:g}" for name in _NAMES}
PROMPT: Final[Mapping[str, str]] = {
    name.upper(): f"{Settings.model_fields[name].default:g}" for name in _NAMES
}
