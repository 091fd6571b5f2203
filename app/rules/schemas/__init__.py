"""JSON Schemas: compiled, and judging configurations."""
