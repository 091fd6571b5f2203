"""Checks that a draft passes before it is written."""
