"""Storage of flags and segments: the port and its adapters."""
