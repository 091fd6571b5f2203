"""Templates: read as callers send them, and rendered with the values of their parameters."""
