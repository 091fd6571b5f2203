"""The SQLite file in which the embedded adapters keep their data."""
