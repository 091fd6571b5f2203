"""Proposals as rows: their state, never a configuration value."""
