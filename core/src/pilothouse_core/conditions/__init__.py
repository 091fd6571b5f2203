"""Conditions on an evaluation context: read from JSON, written as JSON, compiled to closures."""
