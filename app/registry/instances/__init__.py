"""Desired state of the registry, one row for each instance."""
