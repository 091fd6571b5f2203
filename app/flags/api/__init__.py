"""HTTP routes of flags and segments, and OFREP."""
