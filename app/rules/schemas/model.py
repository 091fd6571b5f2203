"""What a schema finds wrong with a value."""

from pilothouse_core.judgement.model import Violation

__all__ = ["Violation"]
