"""HTTP API of the service registry."""
