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


def can_match_one_name(one: str, other: str) -> bool:
    """Tell whether there is a text that two patterns match.

    Of two patterns with stars, the parts between the stars find room one after the other; so only
    the beginnings and the ends have to agree.
    """
    if "*" not in one:
        return matches(other, one)
    if "*" not in other:
        return matches(one, other)
    heads = sorted((one.partition("*")[0], other.partition("*")[0]), key=len)
    tails = sorted((one.rpartition("*")[2], other.rpartition("*")[2]), key=len)
    return heads[1].startswith(heads[0]) and tails[1].endswith(tails[0])


def like_pattern(pattern: str) -> str:
    """Return the operand of LIKE in SQL that matches the same names; a backslash escapes in it."""
    for special in "\\%_":
        pattern = pattern.replace(special, "\\" + special)
    return pattern.replace("*", "%")
