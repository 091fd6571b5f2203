"""Policies: which changes need a proposal, and what of it."""
