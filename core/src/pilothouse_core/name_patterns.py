"""Patterns of names, in which `*` matches any characters and all else itself."""


def matches(pattern: str, name: str) -> bool:
    """Tell whether a pattern matches a name.

    Linear in the length of the name; `fnmatch` would also support classes, which no name has.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    if not name.startswith(first):
        return False
    position = len(first)
    *middle, last = rest
    for part in middle:
        start = name.find(part, position)
        if start < 0:
            return False
        position = start + len(part)
    return len(name) - position >= len(last) and name.endswith(last)


def like_pattern(pattern: str) -> str:
    """Return the operand of LIKE in SQL that matches the same names; a backslash escapes in it."""
    for special in "\\%_":
        pattern = pattern.replace(special, "\\" + special)
    return pattern.replace("*", "%")
