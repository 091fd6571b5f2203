"""Judging of effective configurations by schemas and rules."""
