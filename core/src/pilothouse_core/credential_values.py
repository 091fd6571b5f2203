"""Whether a value can be a credential at all, and whether it looks random. Pure."""

import math
from collections import Counter
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits
from typing import Any, Final

import re2

_WEIGHED = 512  # characters; more of them do not make a value more random
_SHORTEST_RANDOM, _SHORTEST_HEX, _SHORTEST_PART = 14, 16, 8  # characters
_LEAST, _LEAST_HEX = 3.0, 2.5  # bits per character
_LEAST_CHANGES, _FEW_VOWELS = 0.24, 0.2  # per character
_ROOTS = "run|etc|var|opt|home|mnt|secrets?|vault|usr|tmp|app|data|srv|root|proc|dev|config|certs?"

# Placeholders in the place of a credential. Full matches, letters of either case.
_STAND_IN_PATTERNS: Final = (
    r"[^a-z0-9]*",
    r"x{3,}.*|.{0,8}x{8,}",
    # words of a schema or a mode
    (
        r"none|null|nil|undefined|unset|empty|n/?a|tbd|todo|fixme|true|false|yes|no|on|off|enabled|"
        r"disabled|required|optional|prompt|ask|string|text|str|default|auto|basic|bearer|digest|plain|"
        r"ldaps?|oauth2?|oidc|jwt|saml|md5|sha\d+|bcrypt|scram-sha-\d+|session|cookie|header|random|"
        r"generated?|inherit"
    ),
    # what says that it is not the value
    r"[^a-z0-9]*(?:redacted|masked|hidden|removed|omitted|secret|password|token)[^a-z0-9]+",
    r"(?:redacted|masked|hidden|removed|omitted).{0,20}",
    r"(?:your|insert|enter|put|add|fill|provide|paste)(?:[-_ .][-_ .a-z]{0,40}|password|token|key)",
    r"\([a-z ]{4,40}\)|placeholder|(?:ask|see|check|contact)[ ].{1,40}",
    r"[-_ .a-z]{0,40}(?:[-_ ]here|[-_ ]goes[-_ ]here)",
    (
        r"(?:replace|set|see|from|managed|injected|stored|provided|comes)[-_ ]"
        r"(?:me|this|by|in|from|env|"
        r"vault|at|via|with)\b.{0,80}"
    ),
    # templates and names of variables
    r"\$\{[^{}]*\}|\{\{.*\}\}|#\{[^{}]*\}|\$\([^()]*\)|%\([^()]*\)[a-z]|<[^<>]*>|\{[a-z0-9_.]*\}",
    r"\$[a-z_][a-z0-9_]*|%[a-z_]+%|%env\([^()]*\)%|@{1,2}[a-z_.]+@{1,2}",
    r"__[a-z0-9_]+__|:[a-z_]+|\[[a-z _-]+\]|%[a-z]",
    r"(?:process\.env|env|var|local|data|os\.environ|\.values|secrets?|steps|inputs)\.[a-z0-9_.]+",
    # references to where the value is kept
    (
        r"(?:ref\+[a-z0-9]+|vault|bao|openbao|op|ssm|awssm|aws-?secretsmanager|secretsmanager|gsm|sm|"
        r"gcp-?secretmanager|gcp-?sm|azure-?kv|keyvault|akv|env|file|secrets?|k8s|kubernetes|conjur|"
        r"doppler|bws|sops|kms|gcpkms|awskms|arn|classpath|resource|keyring|keychain):\S+|"
        r"[a-z][a-z0-9+-]{2,30}:/\S*|[a-z0-9_-]+(?:/[a-z0-9_.-]+)+#[a-z0-9_.-]+"
    ),
    r"projects/[^/]+/secrets/.*|alias/.*|@microsoft\.keyvault\(.*|!(?:ref|sub|getatt|env|vault)\b.*",
    # what is encrypted, hashed or public
    r"enc[\[(].*|\{cipher\}.*|vault:v[0-9]+:.*|aqicah.*|gaaaaa.*|\$ansible_vault.*|age1[a-z0-9]{50,}",
    (
        r"(?:[^:$\s]{1,64}:)?\$(?:2[abxy]?|argon2[a-z]*|[156y]|apr1|scrypt|pbkdf2[a-z0-9-]*)\$.*|"
        r"\*[0-9a-f]{40}|md5[0-9a-f]{32}"
    ),
    r"\{(?:bcrypt|s?sha\d*|s?md5|crypt|argon2|pbkdf2|scrypt)(?:@[^}]*)?\}.*",
    r"(?:pbkdf2[_:]sha\d+|scrypt|bcrypt|argon2[a-z]*|scram-sha-\d+|bcrypt_sha256)[$:].*",
    r"sha(?:1|256|384|512)[:$-][a-z0-9+/=]{20,}",
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}(?:CERTIFICATE|PUBLIC KEY|MESSAGE|ENCRYPTED FILE).*",
    r"(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-[a-z0-9-]+|sk-(?:ssh|ecdsa)-\S+) .*",
    # places and patterns
    r"[a-z][a-z0-9+.-]*://\S*",
    rf"(?:/(?:{_ROOTS})|~|\.{{1,2}}|[a-z]:\\|\\\\|%[a-z]+%\\)[/\\].*|/[a-z0-9_-]+(?:/[a-z_.{{}}-]+)*",
    r"[a-z0-9_./-]+\.(?:pem|key|crt|cer|p12|pfx|jks|txt|json|ya?ml|env|conf|pub|gpg|asc|token|html)",
    r".*(?:\[\^|\\[swdb]|\.[*+]|\(\?).*",
)
_HEX = re2.compile(r"^[0-9a-fA-F]+$")
_TOKEN = re2.compile(r"^[A-Za-z0-9+/=_.~:%-]+$")
_VARIABLE = re2.compile(r"^(?:[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|PASS|PASSWORD|PASSWD|SECRET|TOKEN)$")
_CLASSES = {
    code: "a" if chr(code) in ascii_lowercase else "A" if chr(code) in ascii_uppercase else "0"
    for code in map(ord, ascii_letters + digits)
} | dict.fromkeys(map(ord, "+/=_.~:%-"), " ")
_PARTS = dict.fromkeys(map(ord, "+/=_.~:%-"), " ")
# `Camel` is a word: a small letter after a capital is no change.
_CHANGES = ("aA", "a0", "A0", "0a", "0A")


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = False
    options.dot_nl = True
    return options


def _compile_stand_ins() -> Any:
    patterns = re2.Set.FullMatchSet(_options())
    for pattern in _STAND_IN_PATTERNS:
        patterns.Add(pattern)
    patterns.Compile()
    return patterns


_STAND_INS = _compile_stand_ins()


def is_stand_in(text: str) -> bool:
    """Tell whether `text` only represents a credential: a template, reference, hash or path."""
    return _STAND_INS.Match(text) is not None or _VARIABLE.search(text) is not None


def is_random(text: str) -> bool:
    """Tell whether `text` looks random rather than made of words.

    Words keep to one class of characters (upper, lower, digits) for long; in random text the
    class changes after about every other character. Entropy alone does not tell them apart: it is
    3.9 bits for `orders-service-eu-west-1` and 3.4 for 16 random hexadecimal digits.
    """
    text = text.strip()[:_WEIGHED]
    if len(text) < _SHORTEST_RANDOM or _TOKEN.search(text) is None:
        return False
    bare = text.replace("-", "").replace(":", "")
    if _HEX.search(bare) is not None:
        return (
            not bare.isdigit()
            and len(bare) >= _SHORTEST_HEX
            and _entropy(bare.lower()) >= _LEAST_HEX
        )
    classes = text.translate(_CLASSES)
    words = classes.split()
    longest = max(map(len, words), default=0)
    if longest < _SHORTEST_PART or _entropy(text) < _LEAST:
        return False
    steps = sum(map(len, words)) - len(words)
    changes = sum(map(classes.count, _CHANGES))
    return changes >= _LEAST_CHANGES * steps or (
        longest >= _SHORTEST_HEX and any(map(_is_gibberish, text.translate(_PARTS).split()))
    )


def _is_gibberish(word: str) -> bool:
    """Letters without the vowels of words: their share is 0.4 in English, 0.19 at random."""
    vowels = sum(c in "aeiouyAEIOUY" for c in word)
    return len(word) >= _SHORTEST_HEX and vowels < _FEW_VOWELS * len(word)


def _entropy(text: str) -> float:
    """Return Shannon's entropy of the characters, in bits per character (1948)."""
    size = len(text)
    return -sum(n / size * math.log2(n / size) for n in Counter(text).values())
