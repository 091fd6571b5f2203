"""Feature flags: definitions, storage, evaluation and the HTTP API."""
