"""The health of this replica and of the servers behind its ports."""
