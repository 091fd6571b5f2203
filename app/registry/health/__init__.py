"""Health checks of registered instances."""
