"""The audit: a hash chain of who did what, when and from where."""
