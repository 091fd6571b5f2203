"""The use cases of configurations."""
