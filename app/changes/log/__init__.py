"""The port for the change log, and its adapters."""
