"""Variables of the environment that have no effect: misspelt settings, and unsupported ones."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

# Variables with these prefixes are meant for this service.
PREFIXES: Final = (
    "PILOTHOUSE_",
    "VAULT_",
    "DATABASE_",
    "REDIS_",
    "KAFKA_",
    "ZOOKEEPER_",
    "OIDC_",
    "HEALTH_CHECK_",
    "AUDIT_SIGNING_",
    "SERVICE_REGISTRY_",
    "SERVICE_HEALTH_CHECK_",
    "PLAIN_VALUES_",
    "PRODUCTION_CHECKS_",
    "CORS_",
)
_OWN_PREFIX: Final = "PILOTHOUSE_"
# Variables of the client library and its CLI, which often run in the same environment.
CLIENT_NAMES: Final = frozenset(
    f"PILOTHOUSE_{name}"
    for name in ("URL", "TOKEN", "SERVICE", "ENVIRONMENT", "PROFILE", "FOR_DYNACONF")
)
# Kubernetes sets these in every container for each Service: REDIS_PORT for one called `redis`.
_SERVICE_LINK: Final = re.compile(
    r".+_(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?"
    r"|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)
_LINK: Final = re.compile(r"(?:tcp|udp|sctp)://.*", re.IGNORECASE | re.DOTALL)
_PORT: Final = "_PORT"
# Vault's own programs use these, so that operators may expect the same of this service.
_OF_VAULT: Final = frozenset(
    f"VAULT_{name}"
    for name in (
        *("AGENT_ADDR", "API_ADDR", "CACERT_BYTES", "CAPATH", "CLIENT_CERT", "CLIENT_KEY"),
        *("CLIENT_TIMEOUT", "CLI_NO_COLOR", "CLUSTER_ADDR", "DETAILED", "DISABLE_REDIRECTS"),
        *("FORMAT", "HTTP_PROXY", "LICENSE", "LICENSE_PATH", "LOG_FORMAT", "LOG_LEVEL"),
        *("MAX_RETRIES", "MFA", "PROXY_ADDR", "RATE_LIMIT", "REDIRECT_ADDR", "SRV_LOOKUP"),
        *("TLS_SERVER_NAME", "WRAP_TTL"),
    )
)
_SKIP_VERIFY: Final = "VAULT_SKIP_VERIFY"
_NO: Final = frozenset({"", "0", "f", "false", "n", "no", "off"})
_VERIFIED: Final = (
    "is ignored: Vault's certificate is always verified; name the CA that signed it in VAULT_CACERT"
)
_IGNORED: Final = "is set by Kubernetes for a Service and ignored: the default applies"
_UNKNOWN: Final = "is not a setting"
_SERVICE_PORT: Final = re.compile(r"_SERVICE_PORT$|_PORT_[0-9]+_(?:TCP|UDP|SCTP)_PORT$")
_SHORTEST: Final = 8  # shorter names are similar to too many others
_LONG: Final = 12
_MAX_TYPOS: Final = 2  # characters
_MAX_DISTANCE_RATIO: Final = 0.4  # of a name's length; beyond it the names are unrelated


@dataclass(frozen=True, slots=True)
class IgnoredVariable:
    """A variable that looks like a setting and has no effect."""

    name: str
    reason: str
    nearest: str | None = None
    allowed: bool | None = None  # whether the service starts; None: in development mode

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"{self.name}: {self.reason}{hint}"


def is_service_link(name: str, value: object) -> bool:
    """Tell whether the value of a port is the address of a Service, set by Kubernetes."""
    return name.upper().endswith(_PORT) and isinstance(value, str) and bool(_LINK.fullmatch(value))


def find_ignored(
    environment: Mapping[str, str], known: Collection[str]
) -> tuple[IgnoredVariable, ...]:
    """Return the variables that look like one of the `known` names but are not.

    The case of names is ignored.
    """
    variables = (
        _ignored_variable(name.upper(), value, known)
        for name, value in sorted(environment.items())
        if name
    )
    return tuple(one for one in variables if one is not None)


def _ignored_variable(name: str, value: str, known: Collection[str]) -> IgnoredVariable | None:
    if name in known:
        return (
            IgnoredVariable(name, _IGNORED, allowed=True) if is_service_link(name, value) else None
        )
    if name in CLIENT_NAMES or (name == _SKIP_VERIFY and value.strip().lower() in _NO):
        return None
    if name == _SKIP_VERIFY:
        return IgnoredVariable(name, _VERIFIED, allowed=False)
    if _SERVICE_LINK.fullmatch(name):
        is_number = name.endswith(_PORT) and value.strip().isdecimal()
        if not is_number or _SERVICE_PORT.search(name) or not name.startswith(PREFIXES):
            return None
        # Kubernetes would have set an address.
        return IgnoredVariable(name, _UNKNOWN, nearest_name(name, known), allowed=True)
    return _ignored_unknown(name, known)


def _ignored_unknown(name: str, known: Collection[str]) -> IgnoredVariable | None:
    if name in _OF_VAULT:
        return IgnoredVariable(name, "is used by Vault's own programs, but not by this service")
    if name.startswith(PREFIXES):
        return IgnoredVariable(name, _UNKNOWN, nearest_name(name, known))
    meant = _misspelt_setting(name, known)
    return None if meant is None else IgnoredVariable(name, _UNKNOWN, meant)


def nearest_name(name: str, known: Collection[str]) -> str | None:
    """Return the most similar of the `known` names; None if none is similar."""
    if (bare := name.removeprefix(_OWN_PREFIX)) != name and bare in known:
        return bare
    nearest = min(sorted(known), key=partial(edit_distance, name), default=None)
    if nearest is None or edit_distance(name, nearest) > _MAX_DISTANCE_RATIO * max(
        len(name), len(nearest)
    ):
        return None
    return nearest


def _misspelt_setting(name: str, known: Collection[str]) -> str | None:
    """Return the setting of which a name without our prefixes is a misspelling, if any."""
    if len(name) < _SHORTEST:
        return None
    near = [one for one in sorted(known) if abs(len(one) - len(name)) <= _MAX_TYPOS]
    meant = min(near, key=partial(edit_distance, name), default=None)
    if meant is None:
        return None
    few = _MAX_TYPOS if len(meant) >= _LONG or _has_misspelt_prefix(name, meant) else 1
    return meant if edit_distance(name, meant) <= few else None


def _has_misspelt_prefix(name: str, meant: str) -> bool:
    first, ours = name.partition("_")[0], meant.partition("_")[0]
    return f"{ours}_" in PREFIXES and edit_distance(first, ours) == 1


def edit_distance(one: str, other: str) -> int:
    """Return how many characters are wrong, missing, extra or swapped with a neighbour."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, character in enumerate(one, 1):
        current = [row]
        for column, expected in enumerate(other, 1):
            cost = min(
                last[column] + 1, current[-1] + 1, last[column - 1] + (character != expected)
            )
            if (
                row > 1
                and column > 1
                and character == other[column - 2]
                and expected == one[row - 2]
            ):
                cost = min(cost, before[column - 2] + 1)
            current.append(cost)
        before, last = last, current
    return last[-1]
