"""Importers of flag definitions of other systems: pure translations without I/O."""
