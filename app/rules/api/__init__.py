"""The routes of schemas."""
