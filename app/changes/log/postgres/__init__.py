"""The ports of the change log in PostgreSQL, over one pool of connections."""
