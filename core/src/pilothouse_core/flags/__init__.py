"""Flags and segments: their model, read from JSON, written as JSON."""
