"""What the name of a key says about its value."""

import re
from functools import lru_cache
from typing import Final, Literal

from pilothouse_core.keys import names_of

Strength = Literal["password", "secret", "token"]
"""`password`: every text counts. `secret`: also words with digits. `token`: what looks random."""

_CONSIDERED = 1024  # characters, as many as a key has
# Names are short, and this pattern never looks back by more than one character.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", re.ASCII)
_HINT = re.compile(
    r"pass|pwd|psk|pw|secret|token|key|cred|auth|pepper|sas", re.ASCII | re.IGNORECASE
)

_PASSWORDS: Final = frozenset(
    {"password", "passwd", "passphrase", "passcode", "passwort", "pwd", "psk", "pw", "pass",
     "dbpass", "userpass", "rootpass", "adminpass", "smtppass", "mypass", "dbpwd", "userpwd"}
)  # fmt: skip
_SECRETS: Final = frozenset({"secret", "pepper", "clientsecret", "secretkey"})
_TOKENS: Final = frozenset(
    {"token", "credential", "credentials", "creds", "auth", "authorization", "apikey",
     "accesskey", "privatekey", "authkey", "signingkey", "masterkey", "encryptionkey",
     "accountkey", "sas"}
)  # fmt: skip
# `key` alone names half of all settings; after one of these it names a credential.
_OF_KEYS: Final = frozenset(
    {"api", "access", "secret", "private", "signing", "sign", "encryption", "encrypt", "crypto",
     "cipher", "master", "account", "shared", "auth", "hmac", "jwt", "storage", "service", "app",
     "application", "admin", "integration", "ingest", "write", "deploy", "session", "cookie",
     "hash", "aes"}
)  # fmt: skip
# What a secret or its key belongs to; a `secret` alone may be the name of one.
_OF_SECRETS: Final = frozenset(
    {"client", "jwt", "app", "application", "shared", "session", "cookie", "webhook", "signing",
     "oauth", "oauth2", "hmac", "consumer", "api", "csrf", "access", "token", "master", "admin",
     "totp", "cron", "user", "db", "database", "service", "encryption"}
)  # fmt: skip
# Said before or after it, the value is something else.
_NEUTRAL: Final = frozenset(
    {"public", "pub", "hash", "hashed", "encrypted", "masked", "sealed", "existing", "pull",
     "ref", "proxy", "by", "forgot", "reset", "show", "bypass", "require", "requires", "use",
     "allow", "enable", "max", "min", "grant", "type", "no", "has", "is", "external", "label",
     "hint", "placeholder", "tooltip", "title", "partition", "sort", "primary", "foreign",
     "routing", "tls", "image"}
)  # fmt: skip
# Sections whose values are shown to people, or are names of other things.
_SPOKEN: Final = frozenset(
    {"i18n", "l10n", "messages", "message", "labels", "label", "errors", "error", "hints",
     "titles", "placeholders", "tooltips", "public", "cache", "hashes"}
)  # fmt: skip
# Said after it, the value is still the same.
_SUFFIXES: Final = frozenset(
    {"value", "default", "current", "old", "new", "prod", "production", "dev", "test", "staging",
     "plain", "text", "cleartext", "base64", "b64", "base", "string", "str", "primary",
     "secondary", "live", "previous", "next", "raw", "data", "main", "backup", "ro", "rw"}
)  # fmt: skip
_PLURALS: Final = frozenset(
    {"passwords", "secrets", "tokens", "credentials", "apikeys", "keys", "passphrases"}
)
# Members of a section of credentials that are not credentials themselves.
_ABOUT: Final = frozenset(
    {"username", "user", "description", "login", "id", "name", "email", "url", "uri", "host",
     "port", "type", "provider", "ttl", "path", "file", "endpoint", "region", "scope", "scopes",
     "issuer", "audience", "algorithm", "version", "enabled", "format", "header", "length",
     "policy", "expiry", "engine", "mount", "backend", "role", "refresh", "interval", "prefix",
     "realm", "domain", "method", "mode"}
)  # fmt: skip


def strength_of(key: str) -> Strength | None:
    """Return how strongly a key's name suggests a credential, None if it does not."""
    key = key[-_CONSIDERED:]
    if _HINT.search(key) is None:
        return None
    names = names_of(key)
    segments = [_words(name) for name in names[-4:]]
    while len(segments) > 1 and _SUFFIXES.issuperset(segments[-1]):
        segments.pop()
    *above, words = segments
    outer = above[-1] if above else ()
    if _NEUTRAL.intersection(words) or _SPOKEN.intersection(name.lower() for name in names[:-1]):
        return None
    strength = _strength_of_words(words, outer)
    if strength is None and outer and not _ABOUT.intersection(words):
        return _strength_of_section(outer)
    return strength


@lru_cache(maxsize=8192)
def _words(segment: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _WORD.findall(segment))


def _strength_of_words(words: tuple[str, ...], outer: tuple[str, ...]) -> Strength | None:
    while words and (words[-1].isdigit() or words[-1] in _SUFFIXES) and len(words) > 1:
        words = words[:-1]
    if not words:
        return None
    last = words[-1]
    if last not in _PASSWORDS | _TOKENS:
        last = last.removesuffix("s")
    before = [*outer, *words[:-1]][-2:]
    if last in _PASSWORDS or last.endswith(("password", "passwd", "passphrase")):
        return "password"
    if last in _SECRETS or last.endswith("secret"):
        is_owned = last != "secret" or bool(_OF_SECRETS.intersection(before))
        return "password" if is_owned else "secret"
    if last == "key" and "secret" in before[-1:]:
        return "password"
    if last in _TOKENS or last.endswith("token"):
        return "token"
    return "token" if last == "key" and _OF_KEYS.intersection(before[-1:]) else None


def _strength_of_section(outer: tuple[str, ...]) -> Strength | None:
    if outer[-1] not in _PLURALS or (outer[-1] == "keys" and not _OF_KEYS.intersection(outer)):
        return None
    return "secret" if outer[-1] == "passwords" else "token"
