"""Releases of a change to a growing share of instances: plans, arms and what to do next. Pure."""
