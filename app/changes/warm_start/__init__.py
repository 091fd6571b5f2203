"""Snapshots in the cache, with which a replica can start while the log is unavailable."""
