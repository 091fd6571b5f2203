"""The ports of the change log in the embedded SQLite file."""
