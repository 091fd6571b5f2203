"""Feature flags, evaluated where they are asked for."""

from pilothouse.flags.details import FlagDetails
from pilothouse.flags.evaluation import Flags

__all__ = ["FlagDetails", "Flags"]
