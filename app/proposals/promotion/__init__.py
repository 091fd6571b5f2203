"""Promotion of configurations and flags from one environment to another."""
