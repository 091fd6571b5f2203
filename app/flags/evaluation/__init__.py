"""Evaluation of flags, and how often they are evaluated."""
