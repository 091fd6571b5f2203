"""Functions that test whether a text begins with, ends with or contains one of many texts."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

_FEW = 128  # of so few, each is looked for by itself
_CONTINUES = 0xC0  # the two bits that tell the bytes inside a character of UTF-8
_INSIDE = 0x80


def prefix_matcher(texts: Sequence[str]) -> Callable[[str], bool]:
    """Return a test whether a text begins with one of these."""
    if len(texts) <= _FEW:
        prefixes = tuple(texts)
        return lambda text: text.startswith(prefixes)
    is_prefix = _prefixes(map(_utf8, texts))
    return lambda text: is_prefix(_utf8(text))


def suffix_matcher(texts: Sequence[str]) -> Callable[[str], bool]:
    """Return a test whether a text ends with one of these."""
    if len(texts) <= _FEW:
        suffixes = tuple(texts)
        return lambda text: text.endswith(suffixes)
    is_prefix = _prefixes(_utf8(text[::-1]) for text in texts)
    return lambda text: is_prefix(_utf8(text[::-1]))


def substring_matcher(texts: Sequence[str]) -> Callable[[str], bool]:
    """Return a test whether a text contains one of these."""
    if len(texts) <= _FEW:
        return lambda text: any(part in text for part in texts)
    parts = [_utf8(text) for text in texts]
    is_prefix = _prefixes(parts)
    longest = max(map(len, parts))

    def says(text: str) -> bool:
        encoded = _utf8(text)
        return any(
            is_prefix(encoded[start : start + longest])
            for start, byte in enumerate(encoded)
            if byte & _CONTINUES != _INSIDE
        )

    # The empty text is contained in the empty text, which has no place to begin at.
    return (lambda _: True) if b"" in parts else says


def _utf8(text: str) -> bytes:
    """Return bytes, which compare many times faster than texts of different widths."""
    return text.encode("utf-8", "surrogatepass")


def _prefixes(texts: Iterable[bytes]) -> Callable[[bytes], bool]:
    """Return a test whether one of these is a prefix of a text.

    Of texts of which none is a prefix of another, only the greatest that is not greater than a
    text can be its prefix: whatever lies between a prefix and the text begins with that prefix.
    """
    kept: list[bytes] = []
    for text in sorted(texts):
        if not kept or not text.startswith(kept[-1]):
            kept.append(text)

    def says(text: bytes) -> bool:
        place = bisect_right(kept, text)
        return place > 0 and text.startswith(kept[place - 1])

    return says
