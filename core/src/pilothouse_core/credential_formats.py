"""Credentials that betray themselves by their shape, whatever they are called. Pure.

The shapes are those that the issuers of the tokens document. Every pattern is RE2's, so the time
is linear in the length of the text.
"""

from typing import Any, Final, Literal

import re2

CredentialRule = Literal[
    "private_key",
    "aws_key",
    "azure_key",
    "github_token",
    "gitlab_token",
    "google_key",
    "jwt",
    "openai_key",
    "package_token",
    "pilothouse_token",
    "sendgrid_key",
    "slack_token",
    "stripe_key",
    "twilio_key",
    "vault_token",
    "service_token",
    "authorization_header",
    "url_password",
    "assigned_password",
    "named_password",
    "named_secret",
]

# Rule, something short that every match contains, and the whole. What is short is looked for in
# all values at once; counted repetitions would make that automaton too large.
_FORMATS: Final[tuple[tuple[CredentialRule, str, str], ...]] = (
    (
        "private_key",
        "PRIVATE KEY",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----[\sA-Za-z0-9+/=:,.()\\-]{64}",
    ),
    ("private_key", "PuTTY-User-Key-File-", r"PuTTY-User-Key-File-[23]: [a-z0-9-]+"),
    ("private_key", "AGE-SECRET-KEY-", r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    ("private_key", '"d"', r'"kty"[^}]*"d"\s*:\s*"[A-Za-z0-9_-]{32,}|"d"\s*:\s*"[^}]*"kty"'),
    ("aws_key", "A(?:KI|SI|BI|CC)A", r"\bA(?:KI|SI|BI|CC)A[A-Z2-7]{16}\b"),
    ("github_token", "gh[opsur]_", r"\bgh[opsur]_[A-Za-z0-9]{36,255}"),
    ("github_token", "github_pat_", r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    (
        "gitlab_token",
        "gl[a-z]{2,5}-",
        r"\bgl(?:agent|cbt|dt|ffct|ft|imt|oas|pat|ptt|rt|soat)-[A-Za-z0-9_=.-]{20,}",
    ),
    ("slack_token", "xox[a-z]", r"\bxox[abeoprs]-(?:[0-9A-Za-z]+-){1,4}[0-9A-Za-z]{16,}"),
    ("slack_token", "xapp-", r"\bxapp-[0-9]-[A-Z0-9]+-[0-9]+-[a-z0-9]{32,}"),
    (
        "slack_token",
        "hooks.slack",
        r"hooks\.slack(?:-gov)?\.com/services/[A-Z0-9/]+/[A-Za-z0-9]{20,}",
    ),
    ("stripe_key", "[rs]k_(?:live|test)_", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    ("stripe_key", "whsec_", r"\bwhsec_[A-Za-z0-9+/]{24,}"),
    ("google_key", "AIza", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("google_key", "GOCSPX-", r"\bGOCSPX-[A-Za-z0-9_-]{28}"),
    ("google_key", ":APA91b", r":APA91b[A-Za-z0-9_-]{100,}"),
    ("google_key", r"ya29\.", r"\bya29\.[A-Za-z0-9_-]{30,}"),
    ("package_token", "npm_", r"\bnpm_[A-Za-z0-9]{36}"),
    ("package_token", "pypi-A", r"\bpypi-A[A-Za-z0-9_-]{50,}"),
    ("package_token", "rubygems_", r"\brubygems_[a-f0-9]{48}"),
    ("package_token", "dckr_", r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{27,}"),
    ("package_token", "oy2", r"\boy2[a-z0-9]{43}\b"),
    ("twilio_key", "SK[0-9a-f]", r"\bSK[0-9a-f]{32}\b"),
    ("sendgrid_key", r"SG\.", r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    (
        "openai_key",
        "sk-",
        r"\bsk-(?:(?:proj|ant|svcacct|admin|or)-[A-Za-z0-9_-]{24,}|[A-Za-z0-9]{32,})",
    ),
    ("jwt", "eyJ", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{16,}"),
    ("vault_token", r"hv[brs]\.", r"\bhv[brs]\.[A-Za-z0-9_-]{24,}"),
    ("vault_token", r"\b[brs]\.[A-Za-z0-9]", r"(?:^|[\s\"'=:,])[brs]\.[A-Za-z0-9]{24}\b"),
    ("pilothouse_token", "plh_", r"\bplh_[a-z]+_[A-Za-z0-9_-]{40,}"),
    ("azure_key", "(?i)accountkey=", r"(?i)AccountKey=[A-Za-z0-9+/]{60,}={0,2}"),
    (
        "azure_key",
        "(?i)sharedaccess",
        r"(?i)SharedAccess(?:Key|Signature)=[^;\s]*[A-Za-z0-9+/%=]{40,}",
    ),
    ("azure_key", "[?&]sig=", r"[?&]sig=[A-Za-z0-9%+/=]{40,}"),
    ("azure_key", "8Q~", r"\b[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}"),
    ("service_token", "key-[0-9a-f]", r"\bkey-[0-9a-f]{32}\b"),
    ("service_token", "-us[0-9]", r"\b[0-9a-f]{32}-us[0-9]{1,2}\b"),
    ("service_token", "shp[a-z]{2}_", r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    ("service_token", "hf_", r"\bhf_[A-Za-z0-9]{34}"),
    ("service_token", "do[opr]_v1_", r"\bdo[opr]_v1_[a-f0-9]{64}"),
    ("service_token", "dapi[0-9a-f]", r"\bdapi[0-9a-f]{32}"),
    ("service_token", "dp\\.", r"\bdp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9_.-]{40,}"),
    ("service_token", "atlasv1", r"\b[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,}"),
    (
        "service_token",
        "gl(?:sa|c)_",
        r"\bgl(?:sa_[A-Za-z0-9]{32}_[0-9a-f]{8}|c_[A-Za-z0-9+/=]{32,})",
    ),
    ("service_token", "NRAK-", r"\bNRAK-[A-Z0-9]{27}"),
    ("service_token", "lin_api_", r"\blin_api_[A-Za-z0-9]{40}"),
    ("service_token", "ATATT3", r"\bATATT3[A-Za-z0-9_=-]{60,}"),
    ("service_token", "sq0", r"\bsq0(?:atp|csp)-[A-Za-z0-9_-]{22,43}"),
    ("service_token", ":AA", r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{33}\b"),
    ("service_token", "pscale_", r"\bpscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{32,}"),
    ("service_token", "PMAK-", r"\bPMAK-[a-f0-9]{24}-[a-f0-9]{34}"),
    (
        "service_token",
        "discord",
        r"discord(?:app)?\.com/api/webhooks/[0-9]{16,20}/[A-Za-z0-9_-]{60,}",
    ),
    ("service_token", "sntry[su]_", r"\bsntry[su]_[A-Za-z0-9+/=_-]{40,}"),
)
_END = 16  # characters, of which so many differ unless a page shows `xxxxxxxx` instead of a key
_LEAST_DIFFERENT = 6


def _compile_triggers() -> Any:
    options = re2.Options()
    options.log_errors = False
    triggers = re2.Set.SearchSet(options)
    for _, trigger, _ in _FORMATS:
        triggers.Add(trigger)
    triggers.Compile()
    return triggers


_TRIGGERS: Final = _compile_triggers()
_PATTERNS: Final[tuple[tuple[CredentialRule, Any], ...]] = tuple(
    (rule, re2.compile(pattern)) for rule, _, pattern in _FORMATS
)


def rule_by_format(text: str) -> CredentialRule | None:
    """Return the rule of a credential of a known shape anywhere in `text`.

    Raises UnicodeEncodeError where UTF-8 cannot say the text.
    """
    triggered: list[int] = _TRIGGERS.Match(text) or []
    for index in sorted(triggered):
        rule, pattern = _PATTERNS[index]
        match = pattern.search(text)
        if match is not None and len(set(match[0][-_END:])) >= _LEAST_DIFFERENT:
            return rule
    return None
