"""Stored releases: their state and how they came there."""
