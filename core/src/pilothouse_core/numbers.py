"""Decimals that a double holds without changing them."""

from decimal import Decimal

INEXACT = "a number that a double cannot hold unchanged; send it as text, or with fewer digits"
_ALWAYS_HELD = 15  # digits


def is_exact(text: str) -> bool:
    """Tell whether a decimal number is returned unchanged.

    `text` is a number of JSON or YAML. Answers write the shortest decimal that reads as the same
    double: `1.10` comes back as `1.1`, which is the same number. `1e-400` would come back as `0.0`
    and `0.1234567890123456789` with fewer digits.
    """
    if len(text) <= _ALWAYS_HELD and "e" not in text and "E" not in text:
        return True
    number = float(text)
    if number == 0:  # Decimal refuses some exponents
        return not any(digit in text.lower().partition("e")[0] for digit in "123456789")
    shortest = repr(number)
    return shortest == text or Decimal(shortest) == Decimal(text)
