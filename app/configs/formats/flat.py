"""What the formats without nesting have in common."""


def left_out(key: str) -> str:
    """The comment that stands where a secret would."""
    # A line break in a name would let the rest of it pass for an entry.
    return f"# {''.join(filter(str.isprintable, key))} is a secret and left out"
