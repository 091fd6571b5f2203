"""Flags of other systems: read so that every user keeps their cohort, and written for flagd."""
