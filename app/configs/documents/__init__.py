"""Documents by version: reading, editing, writing and recovery."""
