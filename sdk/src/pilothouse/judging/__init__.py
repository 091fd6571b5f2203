"""Configurations judged by schemas in this process, as the service judges them."""
