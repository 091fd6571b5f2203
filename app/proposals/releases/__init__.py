"""Releases: a proposed change served to a growing share of instances before it is written."""
