"""Which instance reads which version, and what it says of it."""
