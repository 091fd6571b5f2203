"""Detection of credentials among plain configuration values. Pure.

`find_credential` checks the shape of the value, passwords inside URLs and assignments, and the
name of the key: under a name such as `password` every text counts unless it is a stand-in, under
a name such as `token` only text that looks random. All patterns that meet values are RE2's and the
length is bounded, so it takes linear time.
"""

import binascii
from base64 import b64decode
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

import re2

from pilothouse_core.credential_formats import CredentialRule, rule_by_format
from pilothouse_core.credential_names import Strength, strength_of
from pilothouse_core.credential_values import is_random, is_stand_in

__all__ = ["MAX_SCANNED", "RULES", "CredentialRule", "find_credential"]

MAX_SCANNED = 65_536  # characters; what is longer is judged by its beginning
_SHORTEST = 2
_SHORTEST_NUMBER = 4  # digits
_MAX_NAMED = 1024  # what is longer is a text, and no password
_MAX_PLACES = 100  # assignments and URLs in one value

RULES: Final[Mapping[CredentialRule, str]] = {
    "private_key": "a private key",
    "aws_key": "an AWS access key",
    "azure_key": "an Azure key",
    "github_token": "a GitHub token",
    "gitlab_token": "a GitLab token",
    "google_key": "a Google key",
    "jwt": "a JSON Web Token",
    "openai_key": "a key of a language model",
    "package_token": "a token of a package registry",
    "pilothouse_token": "a token of this service",
    "sendgrid_key": "a SendGrid key",
    "slack_token": "a Slack token or webhook",
    "stripe_key": "a Stripe key",
    "twilio_key": "a Twilio key",
    "vault_token": "a Vault token",
    "service_token": "a token of a known service",
    "authorization_header": "an Authorization header",
    "url_password": "a URL with a password",
    "assigned_password": "a text that assigns a password, such as a connection string",
    "named_password": "a password, going by its name",
    "named_secret": "a secret, going by its name and by how random it is",
}

_URL = re2.compile(
    r"(?i)[a-z][a-z0-9+.-]{1,30}://[^\s/?#:@\"'<>]{0,200}:([^\s/?#@\"'<>]{1,400})@[a-z0-9\[_:-]"
)
_ORACLE = re2.compile(r"(?i)jdbc:oracle:[a-z0-9]+:[^\s/:@]{1,200}/([^\s@/]{1,400})@")
_NAME = (
    r"([a-z0-9_.\-]{0,64}(?:passw(?:or)?d|pwd|pass|passphrase|secret|token|key|credentials?|"
    r"auth)[a-z0-9_]{0,16})"
)
_VALUE = r"(\"[^\"\n]{1,400}|'[^'\n]{1,400}|[^\s\"';&,]{1,400})"
# `name=value` anywhere; `name: value` where it is a member of JSON or a line of several;
# `--name value` on a command line.
_ASSIGNED = re2.compile(rf"(?i)(?:^|[^a-z0-9_.\-]|-){_NAME}[\"']?[ \t]{{0,3}}=[ \t]{{0,3}}{_VALUE}")
_MEMBER = re2.compile(rf"(?im)(?:[\"']|^\s{{0,64}}){_NAME}[\"']?[ \t]{{0,3}}:[ \t]{{0,3}}{_VALUE}")
_OPTION = re2.compile(rf"(?i)(?:^|\s)(?:--?|login\s\S{{1,200}}\s){_NAME}\s{{1,3}}{_VALUE}")
_HEADER = re2.compile(
    r"(?i)^(?:authorization:\s*)?(basic|bearer|token|apikey)\s+([A-Za-z0-9+/=_.~-]{8,})\s*$"
)
_TEMPLATE = re2.compile(
    r"\$\{[^{}]*\}|\{\{[^{}]*\}\}|#\{[^{}]*\}|\$\([^()]*\)|%\([^()]*\)[a-z]|\{[A-Za-z0-9_.]*\}"
    r"|<[A-Za-z][^<>]*>"
)
_WITH_DEFAULT = re2.compile(r"^\$\{[A-Za-z0-9_.-]+?(?::-|:|-)(.*)\}$")
_DIGITS = re2.compile(r"^[0-9 _.,:+/-]+$")
_SENTENCE = re2.compile(r"(?i)passw|secret|token|[.!?:…]$|\b(?:must|please|enter|your|required)\b")
_MIXED = re2.compile(r"[a-z].*[A-Z]|[A-Za-z].*[0-9!@#$%^&*]|[0-9!@#$%^&*].*[A-Za-z]")
_NAME_OF_ONE = re2.compile(r"^[a-z0-9]+(?:[-_./][a-z0-9]+)+$")
_LOGIN = re2.compile(
    r"^[^\s:]{1,64}:[^\s:]*(?:[A-Za-z][0-9!@#$%^&*]|[0-9!@#$%^&*][A-Za-z])[^\s:]*$"
)
_SCHEME = re2.compile(r"(?i)^(?:bearer|basic|token|apikey)\s+")
_PLAINLY = re2.compile(r"^\{(?:noop|plain|cleartext)\}")


def find_credential(key: str, value: str) -> CredentialRule | None:
    """Return the rule by which the plain `value` of `key` is a credential, None if it is not one.

    `key` is a dotted path. Never raises; of a value only the first `MAX_SCANNED` characters count.
    """
    text = value[:MAX_SCANNED].encode(errors="replace").decode()
    if len(text) < _SHORTEST:
        return None
    return rule_by_format(text) or _rule_by_context(text) or _rule_by_name(strength_of(key), text)


def _rule_by_context(text: str) -> CredentialRule | None:
    """Check the usual places of credentials: headers, URLs and assignments."""
    header = _HEADER.search(text) if " " in text else None
    if header is not None and _is_sent(header[1].lower(), header[2]):
        return "authorization_header"
    plain = _without_templates(text)
    if "@" in plain and any(map(_is_password, _passwords(plain))):
        return "url_password"
    for name, value in islice(_assignments(plain), _MAX_PLACES):
        if _rule_by_name(strength_of(name), value) is not None:
            return "assigned_password"
    return None


def _is_sent(scheme: str, sent: str) -> bool:
    """Tell whether a header holds `user:password` in base64, or a token."""
    if scheme != "basic":
        return is_random(sent)
    try:
        name, colon, password = b64decode(sent, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return False
    return bool(colon and name.isprintable()) and _is_password(password)


def _without_templates(text: str) -> str:
    """Replace every template by its default, which is as plain as any value, or by nothing."""
    if not any(bracket in text for bracket in "{<("):
        return text
    return str(_TEMPLATE.sub(lambda match: _default(match[0]) or "", text, _MAX_PLACES))


def _default(text: str) -> str | None:
    """Return the default of a template such as `${NAME:default}`, None if it has none."""
    match = _WITH_DEFAULT.search(text)
    return match[1] if match is not None else None


def _passwords(text: str) -> Iterator[str]:
    for pattern in (_URL, _ORACLE):
        yield from (match[1] for match in islice(pattern.finditer(text), _MAX_PLACES))


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    patterns = (
        (_ASSIGNED, "=" in text),
        (_MEMBER, ":" in text and ('"' in text or "'" in text or "\n" in text)),
        (_OPTION, " " in text and ("-" in text or "login " in text)),
    )
    for pattern, is_there in patterns:
        if is_there:
            yield from ((match[1], match[2].strip("\"'")) for match in pattern.finditer(text))


def _rule_by_name(strength: Strength | None, text: str) -> CredentialRule | None:
    if strength is None or len(text) > _MAX_NAMED:
        return None
    text = text.strip()
    while (default := _default(text)) is not None:
        text = default
    match strength:
        case "password":
            return "named_password" if _is_password(text) else None
        case "secret":
            return "named_secret" if _is_secret(text) else None
        case "token":
            return "named_secret" if _is_token(_SCHEME.sub("", text)) else None


def _is_token(text: str) -> bool:
    if is_random(text):
        return not is_stand_in(text)
    return _LOGIN.search(text) is not None and _is_password(text)


def _is_password(text: str) -> bool:
    text = _PLAINLY.sub("", text)
    if len(text) < _SHORTEST or is_stand_in(text):
        return False
    if _DIGITS.search(text) is not None:
        return sum(map(str.isdigit, text)) >= _SHORTEST_NUMBER
    return " " not in text or _SENTENCE.search(text) is None


def _is_secret(text: str) -> bool:
    """Tell whether `text` is a secret, rather than the name of one such as `orders-tls-2`."""
    if not _is_password(text) or _NAME_OF_ONE.search(text) is not None:
        return is_random(text) and not is_stand_in(text)
    return _MIXED.search(text) is not None
