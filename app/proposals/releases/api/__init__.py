"""Routes of releases, and of who reads what."""
