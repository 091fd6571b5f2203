"""Configurations: layered documents of keys and values, their versions and secrets."""
