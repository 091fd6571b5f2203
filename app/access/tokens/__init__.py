"""Tokens of machines: their model, store, cache and routes."""
