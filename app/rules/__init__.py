"""Rules that configurations have to meet."""
