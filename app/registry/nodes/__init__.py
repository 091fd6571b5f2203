"""Actual state of the registry, one node for each instance."""
