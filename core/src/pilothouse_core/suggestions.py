"""Suggestions for names that are not known: the nearest known name, or our word for another's."""

import re
from collections.abc import Iterable
from itertools import islice

MAX_CANDIDATES = 1000
_MAX_COMPARED = 50  # each takes up to 0.2 ms
_MAX_LENGTH = 64
_MIN_PREFIX = 3
_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9]+")

# Terms of Unleash, flagd, LaunchDarkly, Spring Cloud Config, Apollo, Nacos, Eureka and Consul (and
# ordinary English) by our names for the same thing, most specific first. Spelled without case and
# punctuation.
_FOREIGN_TERMS: dict[str, tuple[str, ...]] = {
    "active": ("enabled",),
    "allowlist": ("target_users",),
    "app": ("service_name", "service"),
    "appid": ("service_name", "service"),
    "application": ("service_name", "service"),
    "appname": ("service_name", "service"),
    "attributes": ("context",),
    "condition": ("when",),
    "conditions": ("when",),
    "config": ("config_data",),
    "consistenthash": ("hash",),
    "constraints": ("rules",),
    "content": ("config_data", "value"),
    "data": ("config_data", "value"),
    "dateafter": ("after",),
    "datebefore": ("before",),
    "default": ("default_variant",),
    "defaultvalue": ("default_variant",),
    "defaultvariation": ("default_variant",),
    "encrypted": ("is_encrypted",),
    "env": ("environment",),
    "equal": ("eq",),
    "equals": ("eq",),
    "expires": ("expires_at",),
    "expiry": ("expires_at",),
    "fallthrough": ("default_variant",),
    "feature": ("flag_name", "name"),
    "flag": ("flag_name", "name"),
    "flagkey": ("flag_name", "name"),
    "flags": ("flag_names",),
    "greaterthan": ("gt",),
    "greaterthanorequal": ("gte",),
    "healthcheck": ("health_check_url",),
    "healthurl": ("health_check_url",),
    "homepageurl": ("service_url",),
    "id": ("instance_id",),
    "if": ("when",),
    "iphash": ("hash",),
    "is": ("eq",),
    "isactive": ("enabled",),
    "isenabled": ("enabled",),
    "isin": ("in",),
    "isoneof": ("in",),
    "issecret": ("is_encrypted",),
    "kind": ("class", "type"),
    "label": ("environment",),
    "leastconn": ("least_recent",),
    "leastconnections": ("least_recent",),
    "leasttime": ("least_recent",),
    "leastused": ("least_recent",),
    "lessthan": ("lt",),
    "lessthanorequal": ("lte",),
    "message": ("comment",),
    "name": ("service_name", "flag_name", "key"),
    "namespace": ("environment",),
    "notequal": ("neq",),
    "notequals": ("neq",),
    "numeq": ("eq",),
    "numgt": ("gt",),
    "numgte": ("gte",),
    "numlt": ("lt",),
    "numlte": ("lte",),
    "offvalue": ("off_variant",),
    "offvariation": ("off_variant",),
    "on": ("enabled",),
    "oneof": ("in",),
    "path": ("key",),
    "percent": ("rollout_percentage",),
    "percentage": ("rollout_percentage", "percent"),
    "permissions": ("roles",),
    "profile": ("environment",),
    "profiles": ("environment",),
    "regex": ("matches",),
    "rollout": ("rollout_percentage",),
    "rr": ("round_robin",),
    "scopes": ("roles",),
    "secret": ("is_encrypted",),
    "segmentmatch": ("segment",),
    "semver": ("semver_eq",),
    "semverequal": ("semver_eq",),
    "semvergreaterthan": ("semver_gt",),
    "semverlessthan": ("semver_lt",),
    "sensitive": ("is_encrypted",),
    "service": ("service_name",),
    "serviceid": ("service_name",),
    "stage": ("environment",),
    "state": ("enabled",),
    "status": ("enabled",),
    "strategies": ("rules",),
    "strcontains": ("contains",),
    "strendswith": ("ends_with",),
    "strstartswith": ("starts_with",),
    "targetedusers": ("target_users",),
    "targeting": ("rules",),
    "targetingkey": ("user_id",),
    "targets": ("target_users",),
    "ttl": ("ttl_seconds",),
    "uri": ("service_url",),
    "url": ("service_url",),
    "user": ("user_id",),
    "userids": ("target_users",),
    "username": ("user_id", "user"),
    "users": ("target_users",),
    "values": ("value",),
    "variation": ("variant",),
    "variations": ("variants",),
    "weighted": ("round_robin",),
    "whitelist": ("target_users",),
}


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` most likely means, None if none is similar.

    The same letters in another spelling (`rolloutPercentage`) win over another system's term, that
    over the only name that begins so, and that over a typo. At most `MAX_CANDIDATES` names are
    looked at, which takes milliseconds.
    """
    if not name or len(name) > _MAX_LENGTH:
        return None
    candidates = [one for one in islice(known, MAX_CANDIDATES) if one != name]
    plain = _plain(name)
    for candidate in candidates:
        if plain and _plain(candidate) == plain:
            return candidate
    for term in _FOREIGN_TERMS.get(plain, ()):
        if term in candidates:
            return term
    longer = [candidate for candidate in candidates if candidate.startswith(name.lower())]
    if len(longer) == 1 and len(name) >= _MIN_PREFIX:
        return longer[0]
    return _most_similar(name.lower(), candidates)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean ...?` to be added to a message, empty where nothing is near."""
    suggestion = nearest_name(name, known)
    return "" if suggestion is None else f"; did you mean {suggestion!r}?"


def _plain(name: str) -> str:
    return _NOT_ALPHANUMERIC.sub("", name.lower())


def _most_similar(name: str, candidates: Iterable[str]) -> str | None:
    best, at_most = None, min(3, len(name) // 3)
    letters = set(name)
    plausible = (
        candidate
        for candidate in candidates
        if abs(len(candidate) - len(name)) <= at_most
        and len(letters.difference(candidate.lower())) <= at_most
    )
    for candidate in islice(plausible, _MAX_COMPARED):
        distance = _edit_distance(name, candidate.lower(), at_most)
        if distance <= at_most:
            best, at_most = candidate, distance - 1
    return best


def _edit_distance(left: str, right: str, at_most: int) -> int:
    """Return the optimal string alignment distance, or a number over `at_most`.

    Insertions, deletions, substitutions and swaps of two neighbours count as one (Boytsov,
    "Indexing methods for approximate dictionary searching", 2011).
    """
    before: list[int] = []
    above = list(range(len(right) + 1))
    for row, letter in enumerate(left, start=1):
        current = [row]
        for column, other in enumerate(right, start=1):
            cost = min(above[column] + 1, current[-1] + 1, above[column - 1] + (letter != other))
            if row > 1 < column and letter == right[column - 2] and left[row - 2] == other:
                cost = min(cost, before[column - 2] + 1)
            current.append(cost)
        if min(current) > at_most:
            return at_most + 1
        before, above = above, current
    return above[-1]
