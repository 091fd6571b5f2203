"""The use cases of schemas."""
