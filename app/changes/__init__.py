"""The change log, and everything that follows it."""
