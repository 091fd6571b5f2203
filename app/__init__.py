"""The Pilothouse service."""
