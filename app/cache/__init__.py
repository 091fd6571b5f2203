"""The cache that replicas share, and its adapters."""
