"""Keyed fingerprints of content for the audit. Pure.

Equal texts have equal fingerprints, so a caller who can have texts fingerprinted can test guesses.
Content with restricted access therefore needs a text that no other caller can produce.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

PURPOSE: Final = "audit"  # of the key
_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """HMAC-SHA-256 under a key of this installation, its first 128 bits in hexadecimal."""

    key: bytes = field(repr=False)

    def of(self, text: str | None) -> str | None:
        if text is None:
            return None
        made = hmac.digest(self.key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return made.hex()[:_DIGITS]

    def facts(self, before: str | None, after: str | None) -> Mapping[str, str | None]:
        """Return the fingerprints of a change of content, None for no content."""
        return {"before": self.of(before), "after": self.of(after)}
