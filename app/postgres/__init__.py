"""PostgreSQL: connections, calls, tables and migrations, for the adapters."""
