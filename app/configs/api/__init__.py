"""The HTTP interface of configurations."""
