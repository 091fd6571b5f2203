"""Definitions of flags and segments: their representations, and plans that change them."""
