"""Proposals: changes that are reviewed before they are applied, together and at a stated time."""
