"""What the audit says of a content: enough to recognise it, nothing to guess it by. Pure."""

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
        """Tell a change of content, None where there is none."""
        return {"before": self.of(before), "after": self.of(after)}
