"""Rules: schemas of configurations, and conditions between their keys."""
