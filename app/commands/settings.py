"""The settings of a command, with warnings about ignored variables on standard error."""

import sys

from app.production_checks import refuse_ignored_variables
from app.settings import Settings, load_settings


def load_command_settings() -> Settings:
    """Raises pydantic's ValidationError and StartRefused."""
    settings = load_settings()
    refuse_ignored_variables(settings)
    for unheeded in settings.ignored_variables:
        print(f"ignored: {unheeded}", file=sys.stderr)
    return settings
