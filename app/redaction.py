"""Removes credentials from log lines, also from those of libraries."""

import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

REDACTED: Final = "[redacted]"
# Of secrets that are removed everywhere: a shorter one may be an ordinary term.
_SHORTEST: Final = 16

_QUOTE = r"(?:b(?=[\\'\"]))?[\\'\"]*"  # of a text, of bytes, or of either inside another text
_UNTIL = r"[^\s\\'\",;)\]}]+"
_RULES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        # A header, as text or as a pair in Python or JSON.
        (
            (
                r"\b((?:proxy-)?authorization|x-api-key|x-vault-token|(?:set-)?cookie)"
                rf"({_QUOTE}\s*[:=,]\s*{_QUOTE})((?:bearer|basic|digest|token)\s+)?{_UNTIL}"
            ),
            rf"\1\2\3{REDACTED}",
        ),
        (r"\b(bearer\s+)[A-Za-z0-9._~+/=-]{8,}", rf"\1{REDACTED}"),
        # Tokens by their form: ours keep their id, which is not secret.
        (r"\b(plh_[a-z]+_[0-9a-z]{16}_)\w+", rf"\1{REDACTED}"),
        (r"\bhv[sbr]\.[a-z0-9_-]{16,}|\bs\.[a-z0-9]{24}\b", REDACTED),
        (r"\beyJ[a-z0-9_-]{5,}\.[a-z0-9_-]+\.[a-z0-9_-]*", REDACTED),
        (
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
            REDACTED,
        ),
        # The password of a URL; what follows a colon may be a port as well.
        (
            r"\b([a-z][a-z0-9+.-]*://[^\s/:@'\"\\]*:)(?!\d+(?:[/?#\s,'\"\\]|$))[^\s'\"]*@",
            rf"\1{REDACTED}@",
        ),
        # A parameter of a query, or an argument.
        (
            (
                r"\b((?:[a-z0-9]+[_-])*(?:password|passwd|pwd|secret|secret_id|token|api_?key|pepper"
                rf"|ticket)={_QUOTE})[^\s&\\'\",;)\]}}]+"
            ),
            rf"\1{REDACTED}",
        ),
        (
            (
                rf"\b(password|passwd|secret_id|client_secret|private_key)({_QUOTE}\s*:\s*{_QUOTE})"
                rf"{_UNTIL}"
            ),
            rf"\1\2{REDACTED}",
        ),
    )
)


class Redactor:
    """Removes texts that look like credentials, and secrets with known values."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spellings = {
            spelling
            for secret in secrets
            if len(secret) >= _SHORTEST
            for spelling in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret))
        }
        self._secrets = sorted(spellings, key=len, reverse=True)

    def redact(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        for pattern, replacement in _RULES:
            text = pattern.sub(replacement, text)
        return text
