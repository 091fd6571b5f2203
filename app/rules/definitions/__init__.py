"""Schemas and templates: every version stored, the current ones in memory."""
