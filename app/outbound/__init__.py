"""Connections to addresses that callers choose: which are allowed, and how they are pinned."""
