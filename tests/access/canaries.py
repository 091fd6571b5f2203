"""Random secrets, and every form in which one of them could lie somewhere."""

import base64
import json
import random
import string
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

_PLAIN = string.ascii_letters + string.digits
# What each way of writing a text has to escape.
_AWKWARD = "\"\\/<>&'%+ =?#:;,ä€🜚\t\n"
_SHORTEST = 12  # fewer characters could stand there by chance


def canaries(seed: int, number: int = 50) -> list[str]:
    """Draw secrets: half of them plain, half with characters that have to be escaped somewhere."""
    draw = random.Random(seed)
    found = []
    for turn in range(number):
        letters = draw.choices(_PLAIN, k=24)
        if turn % 2:
            for place, letter in zip((5, 11, 17), draw.sample(_AWKWARD, 3), strict=True):
                letters[place] = letter
        found.append("".join(letters))
    return found


def forms(secret: str) -> Iterator[bytes]:
    """Tell each way to write a secret: plain, escaped, in hex and base64 wherever it begins."""
    raw = secret.encode()
    yield raw
    for escaped in (
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        json.dumps(json.dumps(secret))[1:-1].removeprefix('\\"').removesuffix('\\"'),
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        repr(secret)[1:-1],
        repr(raw)[2:-1],
    ):
        yield escaped.encode()
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for offset in range(3):
        # What comes before shifts the letters; the first and last of them depend on neighbours.
        shifted = base64.b64encode(bytes(offset) + raw)[offset + bool(offset) : -4]
        yield shifted
        yield shifted.translate(bytes.maketrans(b"+/", b"-_"))


def secrets_in(secrets: Iterable[str], places: Iterable[tuple[str, bytes]]) -> list[str]:
    """Tell which secret lies where, in which form."""
    looked = [(number, form) for number, one in enumerate(secrets) for form in set(forms(one))]
    assert all(len(form) >= _SHORTEST for _, form in looked)
    return [
        f"canary {number} in {place}, as {form!r}"
        for place, text in places
        for number, form in looked
        if form in text
    ]
