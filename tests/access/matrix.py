"""Who may do what where: one table of every route, one of every caller. Written by hand.

Nothing here is taken from the code that decides, so that both have to be wrong in the same way.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

# A place is (environment, service); the tokens of one place are meant for `staging` and `shop`.
PLACES: Mapping[str, tuple[str, str]] = {
    "own": ("staging", "shop"),
    "base": ("default", "shop"),
    "production": ("production", "shop"),
    "foreign": ("staging", "bank"),
}
_HERE = {"environments": ["staging"], "services": ["shop"]}
_ALL = {"environments": ["*"], "services": ["*"]}
# None has no token at all; every other is created with this.
CALLERS: Mapping[str, dict[str, Any] | None] = {
    "nobody": None,
    "service": {"class": "service", **_HERE},
    "client": {"class": "client", **_HERE},
    "viewer": {"class": "operator", "roles": ["viewer"], **_HERE},
    "revealer": {"class": "operator", "roles": ["viewer", "secrets:reveal"], **_HERE},
    "editor": {"class": "operator", "roles": ["editor"], **_HERE},
    "publisher": {"class": "operator", "roles": ["publisher"], **_HERE},
    "administrator": {"class": "admin", **_HERE},
    "viewer of all": {"class": "operator", "roles": ["viewer"], **_ALL},
    "editor of all": {"class": "operator", "roles": ["editor"], **_ALL},
    "publisher of all": {"class": "operator", "roles": ["publisher"], **_ALL},
    "administrator of all": {"class": "admin", **_ALL},
}
_EVERYWHERE = frozenset(PLACES)
_OWN = frozenset({"own"})
_STAGING = frozenset({"own", "foreign"})
_SHOP = frozenset({"own", "base", "production"})
_NOWHERE: frozenset[str] = frozenset()

_READERS = ("viewer", "revealer", "editor", "publisher", "administrator")
_READERS_OF_ALL = (
    "viewer of all",
    "editor of all",
    "publisher of all",
    "administrator of all",
)
_WRITERS = ("editor", "publisher", "administrator")
_PUBLISHERS_OF_ALL = ("publisher of all", "administrator of all")
_WRITERS_OF_ALL = ("editor of all", *_PUBLISHERS_OF_ALL)


def _table(*parts: tuple[tuple[str, ...], frozenset[str]]) -> Mapping[str, frozenset[str]]:
    return {caller: places for callers, places in parts for caller in callers}


# What a route needs, and who may do that in which places; whoever is not named may not.
MAY: Mapping[str, Mapping[str, frozenset[str]]] = {
    "anybody": _table((tuple(CALLERS), _EVERYWHERE)),
    "known": _table((tuple(set(CALLERS) - {"nobody"}), _EVERYWHERE)),
    "config:read": _table((("service", *_READERS), _OWN), (_READERS_OF_ALL, _EVERYWHERE)),
    "config:write": _table(
        (_WRITERS, _OWN), (("editor of all",), _STAGING), (_PUBLISHERS_OF_ALL, _EVERYWHERE)
    ),
    "change:propose": _table((_WRITERS, _OWN), (_WRITERS_OF_ALL, _EVERYWHERE)),
    "secrets:reveal": _table((("revealer",), _OWN)),
    "flag:evaluate": _table(
        (("service", "client", *_READERS), _STAGING), (_READERS_OF_ALL, _EVERYWHERE)
    ),
    "flag:read": _table((("service", *_READERS), _STAGING), (_READERS_OF_ALL, _EVERYWHERE)),
    "flag:write": _table(
        ((*_WRITERS, "editor of all"), _STAGING), (_PUBLISHERS_OF_ALL, _EVERYWHERE)
    ),
    "registry:read": _table((("service", *_READERS, *_READERS_OF_ALL), _EVERYWHERE)),
    "registry:write": _table(
        (("service", *_WRITERS), _SHOP), (("editor of all", *_PUBLISHERS_OF_ALL), _EVERYWHERE)
    ),
    # Of instances that state an environment: no more of another one than of another service.
    "registry:write there": _table(
        (("service", *_WRITERS), _OWN), (("editor of all", *_PUBLISHERS_OF_ALL), _EVERYWHERE)
    ),
    # To give up the silent: of all environments, so that nobody does it to those of another.
    "registry:write everywhere": _table(
        (("editor of all", *_PUBLISHERS_OF_ALL), _EVERYWHERE),
    ),
    "stats:read": _table(((*_READERS, *_READERS_OF_ALL), _EVERYWHERE)),
    "audit:read": _table((("administrator",), _OWN), (("administrator of all",), _EVERYWHERE)),
    "audit:read everywhere": _table((("administrator of all",), _EVERYWHERE)),
    # By the patterns that a schema or a template states, here those of the place.
    "rules:write": _table(
        (("publisher", "administrator"), _OWN), (_PUBLISHERS_OF_ALL, _EVERYWHERE)
    ),
    "rules:write somewhere": _table(
        (("publisher", "administrator", *_PUBLISHERS_OF_ALL), _EVERYWHERE)
    ),
    # By the patterns that a policy states, here those of the place.
    "policy:write": _table((("administrator",), _OWN), (("administrator of all",), _EVERYWHERE)),
    "config:read somewhere": _table((("service", *_READERS, *_READERS_OF_ALL), _EVERYWHERE)),
    "release:report somewhere": _table(
        (("service", "administrator", "administrator of all"), _EVERYWHERE)
    ),
    "release:report": _table(
        (("service", "administrator"), _OWN), (("administrator of all",), _EVERYWHERE)
    ),
    "token:manage": _table((("administrator", "administrator of all"), _EVERYWHERE)),
    # By the patterns that a webhook states, here those of the place.
    "webhook:write": _table((("administrator",), _OWN), (("administrator of all",), _EVERYWHERE)),
    "webhook:write somewhere": _table((("administrator", "administrator of all"), _EVERYWHERE)),
}


class Ask(NamedTuple):
    """One request of a route, as it is sent about a place."""

    route: str
    needs: str
    path: Callable[[str, str], str]
    body: Callable[[str, str], Any] | None = None
    headers: Mapping[str, str] | None = None


def _key(path: str) -> Callable[[str, str], str]:
    mark = "&" if "?" in path else "?"
    return lambda environment, service: (
        f"{path}{mark}environment={environment}&service_name={service}"
    )


def _document(rest: str = "") -> Callable[[str, str], str]:
    return lambda environment, service: f"/api/configs/{service}{rest}?environment={environment}"


def _flag(path: str) -> Callable[[str, str], str]:
    mark = "&" if "?" in path else "?"
    return lambda environment, _: f"{path}{mark}environment={environment}"


def _service(path: str) -> Callable[[str, str], str]:
    return lambda _, service: path.format(service=service)


def _path(path: str) -> Callable[[str, str], str]:
    return lambda _, __: path


def _always(body: Any) -> Callable[[str, str], Any]:
    return lambda _, __: body


def _in(**members: Any) -> Callable[[str, str], Any]:
    return lambda environment, _: {**members, "environment": environment}


def _about(**members: Any) -> Callable[[str, str], Any]:
    return lambda environment, service: {
        **members,
        "environment": environment,
        "service_name": service,
    }


def _of(**members: Any) -> Callable[[str, str], Any]:
    return lambda _, service: {**members, "service_name": service}


_FLAGS, _SEGMENTS, _REGISTRY = "/api/v1/feature-flags", "/api/v1/segments", "/api/v1/registry"
_TEMPLATES, _WEBHOOKS = "/api/v1/templates", "/api/v1/webhooks"
_PROPOSALS = "/api/v1/proposals"
_RELEASE, _NO_RELEASE = "/api/v1/releases/{release_id}", "/api/v1/releases/r-none"
_SERVICE = f"{_REGISTRY}/services/{{service}}"
_INSTANCE = f"{_SERVICE}/instances/i1"


def _kept_instance(rest: str) -> Callable[[str, str], str]:
    return lambda environment, service: (
        f"{_REGISTRY}/services/{service}/instances/kept-{environment}/{rest}"
    )


def _schema(rest: str = "") -> Callable[[str, str], str]:
    return lambda environment, service: f"{_SCHEMAS}/kept-{environment}-{service}{rest}"


def _webhook(rest: str = "") -> Callable[[str, str], str]:
    return lambda environment, service: f"{_WEBHOOKS}/kept-{environment}-{service}{rest}"


def _judging(environment: str, service: str) -> dict[str, Any]:
    """Return the body of a schema that applies to a place, and refuses nothing."""
    return {"schema": {}, "applies_to": [{"environments": [environment], "services": [service]}]}


def _policy(rest: str = "") -> Callable[[str, str], str]:
    return lambda environment, service: f"{_POLICIES}/kept-{environment}-{service}{rest}"


_SCHEMAS = "/api/v1/schemas"
_POLICIES = "/api/v1/policies"
# No schema has it: who may write gets as far as this.
_STALE = {"If-Match": '"999"'}
_VALUE = {"value": 1}
_MINE = {"name": "ghost", "class": "client", "environments": ["staging"], "services": ["shop"]}

ASKS: tuple[Ask, ...] = (
    Ask("GET /api/configs", "known", _path("/api/configs")),
    Ask("GET /api/configs/{service}", "config:read", _document()),
    Ask("POST /api/configs/{service}", "config:write", _document(), _always({"config_data": {}})),
    Ask("PUT /api/configs/{service}", "config:write", _document(), _always({"config_data": {}})),
    Ask("DELETE /api/configs/{service}", "config:write", _document()),
    Ask("GET /api/configs/{service}/history", "config:read", _document("/history")),
    Ask("GET /api/configs/{service}/diff", "config:read", _document("/diff")),
    Ask(
        "POST /api/configs/{service}/rollback",
        "config:write",
        _document("/rollback"),
        _always({"version": 1}),
    ),
    Ask("GET /api/v1/config", "config:read", _key("/api/v1/config")),
    Ask(
        "POST /api/v1/config",
        "config:write",
        _path("/api/v1/config"),
        _about(key="a", value=1),
    ),
    Ask("PATCH /api/v1/config", "config:write", _key("/api/v1/config"), _always({"set": {"a": 1}})),
    Ask(
        "POST /api/v1/config/bulk",
        "config:read",
        _path("/api/v1/config/bulk"),
        _about(keys=["a"]),
    ),
    Ask("GET /api/v1/config/{key}", "config:read", _key("/api/v1/config/a")),
    Ask("GET /api/v1/config/{key}", "secrets:reveal", _key("/api/v1/config/a?reveal=true")),
    Ask("PUT /api/v1/config/{key}", "config:write", _key("/api/v1/config/a"), _always(_VALUE)),
    Ask("DELETE /api/v1/config/{key}", "config:write", _key("/api/v1/config/a")),
    Ask("GET /api/v1/config/{key}/history", "config:read", _key("/api/v1/config/a/history")),
    Ask(
        "POST /api/v1/config/{key}/rollback",
        "config:write",
        _key("/api/v1/config/a/rollback"),
        _always({"version": 1}),
    ),
    Ask("GET /api/v1/effective", "config:read", _key("/api/v1/effective")),
    Ask("GET /api/v1/effective", "secrets:reveal", _key("/api/v1/effective?reveal=true")),
    Ask(
        "POST /api/v1/copy",
        "config:write",
        _path("/api/v1/copy"),
        lambda environment, service: {
            "from": {"environment": environment, "service_name": service},
            "to": {"environment": environment, "service_name": service, "user": "ann"},
        },
    ),
    Ask("GET /api/v1/export", "config:read", _key("/api/v1/export")),
    Ask("GET /api/v1/export", "secrets:reveal", _key("/api/v1/export?secrets=revealed")),
    Ask("POST /api/v1/import", "config:write", _key("/api/v1/import?format=json"), _always({})),
    Ask(f"GET {_SCHEMAS}", "config:read somewhere", _path(_SCHEMAS)),
    Ask(f"GET {_SCHEMAS}/export", "config:read somewhere", _path(f"{_SCHEMAS}/export")),
    Ask(
        f"POST {_SCHEMAS}/import",
        "rules:write",
        _path(f"{_SCHEMAS}/import"),
        lambda environment, service: {
            "schemas": {f"new-{environment}-{service}": _judging(environment, service)}
        },
    ),
    Ask(f"GET {_SCHEMAS}/for", "config:read", _key(f"{_SCHEMAS}/for")),
    Ask(f"GET {_SCHEMAS}/{{name}}", "config:read somewhere", _schema()),
    Ask(f"PUT {_SCHEMAS}/{{name}}", "rules:write", _schema(), _judging),
    Ask(f"DELETE {_SCHEMAS}/{{name}}", "rules:write", _schema(), None, _STALE),
    Ask(f"GET {_SCHEMAS}/{{name}}/history", "config:read somewhere", _schema("/history")),
    Ask(f"GET {_SCHEMAS}/{{name}}/diff", "config:read somewhere", _schema("/diff")),
    Ask(
        f"POST {_SCHEMAS}/{{name}}/rollback",
        "rules:write",
        _schema("/rollback"),
        _always({"version": 1}),
        _STALE,
    ),
    Ask(f"GET {_POLICIES}", "config:read somewhere", _path(_POLICIES)),
    Ask(f"GET {_POLICIES}/bypasses", "audit:read everywhere", _path(f"{_POLICIES}/bypasses")),
    Ask(f"GET {_POLICIES}/{{name}}", "config:read somewhere", _policy()),
    Ask(
        f"PUT {_POLICIES}/{{name}}",
        "policy:write",
        _policy(),
        lambda environment, service: {
            "kinds": ["webhook"],
            "environments": [environment],
            "services": [service],
        },
    ),
    Ask(f"DELETE {_POLICIES}/{{name}}", "policy:write", _policy(), None, _STALE),
    Ask(f"GET {_POLICIES}/{{name}}/history", "config:read somewhere", _policy("/history")),
    Ask(f"GET {_POLICIES}/{{name}}/diff", "config:read somewhere", _policy("/diff")),
    Ask(
        f"POST {_POLICIES}/{{name}}/rollback",
        "policy:write",
        _policy("/rollback"),
        _always({"version": 1}),
        _STALE,
    ),
    Ask("GET /api/v1/violations", "config:read somewhere", _key("/api/v1/violations")),
    Ask(
        "POST /api/v1/validate",
        "config:read",
        _path("/api/v1/validate"),
        lambda environment, service: {
            "changes": [{"environment": environment, "service_name": service, "set": {"a": 1}}]
        },
    ),
    Ask("GET /api/v1/changes", "known", _path("/api/v1/changes")),
    # That somebody else writes there is told to nobody: it is found by nobody.
    Ask("GET /api/v1/writes/{intent}", "known", _path(f"/api/v1/writes/{'0' * 32}")),
    Ask(
        f"POST {_PROPOSALS}",
        "change:propose",
        _path(f"{_PROPOSALS}?dry_run=true"),
        lambda environment, service: {
            "title": "ghost",
            "items": [
                {
                    "kind": "config",
                    "environment": environment,
                    "service_name": service,
                    "set": {"ghost.proposal": 1},
                }
            ],
        },
    ),
    # Who sees and decides is a matter of every item: tests/e2e/test_proposal_rights.py.
    Ask(f"GET {_PROPOSALS}", "known", _path(_PROPOSALS)),
    Ask(f"GET {_PROPOSALS}/{{proposal_id}}", "known", _path(f"{_PROPOSALS}/p-none")),
    Ask(
        f"PATCH {_PROPOSALS}/{{proposal_id}}",
        "known",
        _path(f"{_PROPOSALS}/p-none"),
        _always({"rebase": "refuse"}),
    ),
    Ask(
        f"POST {_PROPOSALS}/{{proposal_id}}/reviews",
        "known",
        _path(f"{_PROPOSALS}/p-none/reviews"),
        _always({"round": 1, "verdict": "remark"}),
    ),
    *(
        Ask(
            f"POST {_PROPOSALS}/{{proposal_id}}/{action}",
            "known",
            _path(f"{_PROPOSALS}/p-none/{action}"),
            _always({}),
        )
        for action in ("apply", "unschedule", "withdraw")
    ),
    Ask("GET /api/v1/stream", "config:read", _key("/api/v1/stream?kinds=config")),
    Ask("GET /api/v1/stream", "flag:read", _key("/api/v1/stream?kinds=flag")),
    Ask(f"GET {_TEMPLATES}", "config:read somewhere", _path(_TEMPLATES)),
    Ask(f"GET {_TEMPLATES}/{{name}}", "config:read somewhere", _path(f"{_TEMPLATES}/kept")),
    Ask(
        f"PUT {_TEMPLATES}/{{name}}",
        "rules:write",
        lambda environment, service: f"{_TEMPLATES}/of-{environment}-{service}",
        lambda environment, service: {
            "data": {},
            "applies_to": [{"environments": [environment], "services": [service]}],
        },
    ),
    Ask(
        f"GET {_TEMPLATES}/{{name}}/history",
        "config:read somewhere",
        _path(f"{_TEMPLATES}/kept/history"),
    ),
    Ask(
        f"GET {_TEMPLATES}/{{name}}/diff",
        "config:read somewhere",
        _path(f"{_TEMPLATES}/kept/diff"),
    ),
    Ask(
        f"GET {_TEMPLATES}/{{name}}/uses",
        "config:read somewhere",
        _path(f"{_TEMPLATES}/kept/uses"),
    ),
    Ask(
        f"POST {_TEMPLATES}/{{name}}/rollback",
        "rules:write",
        lambda environment, service: f"{_TEMPLATES}/of-{environment}-{service}/rollback",
        _always({"version": 1}),
    ),
    Ask(
        f"POST {_TEMPLATES}/{{name}}/use",
        "config:write",
        _path(f"{_TEMPLATES}/kept/use"),
        _about(parameters={}),
    ),
    # What may be written is decided for each document: tests/e2e/test_template_rights.py.
    Ask(
        f"POST {_TEMPLATES}/{{name}}/upgrade",
        "config:read somewhere",
        _path(f"{_TEMPLATES}/kept/upgrade"),
        _always({}),
    ),
    Ask(
        f"DELETE {_TEMPLATES}/{{name}}",
        "rules:write somewhere",
        _path(f"{_TEMPLATES}/none"),
    ),
    Ask(f"GET {_WEBHOOKS}", "webhook:write somewhere", _path(_WEBHOOKS)),
    Ask(f"GET {_WEBHOOKS}/{{name}}", "webhook:write", _webhook()),
    Ask(
        f"PUT {_WEBHOOKS}/{{name}}",
        "webhook:write",
        _webhook(),
        lambda environment, service: {
            "url": "http://127.0.0.1:9/",
            "kinds": ["config"],
            "environments": [environment],
            "services": [service],
        },
    ),
    Ask(f"DELETE {_WEBHOOKS}/{{name}}", "webhook:write", _webhook(), None, _STALE),
    Ask(f"GET {_WEBHOOKS}/{{name}}/deliveries", "webhook:write", _webhook("/deliveries")),
    Ask(f"GET {_WEBHOOKS}/{{name}}/dead-letters", "webhook:write", _webhook("/dead-letters")),
    Ask(
        f"POST {_WEBHOOKS}/{{name}}/dead-letters/resend",
        "webhook:write",
        _webhook("/dead-letters/resend"),
    ),
    Ask(
        f"POST {_WEBHOOKS}/{{name}}/dead-letters/{{message_id}}/resend",
        "webhook:write",
        _webhook("/dead-letters/none/resend"),
    ),
    Ask(f"POST {_WEBHOOKS}/{{name}}/test", "webhook:write", _webhook("/test")),
    Ask("GET /api/v1/stream", "webhook:write", _key("/api/v1/stream?kinds=webhook")),
    Ask("GET /api/v1/stream", "config:read", _key("/api/v1/stream?kinds=schema,violation")),
    Ask(f"GET {_FLAGS}", "flag:read", _flag(_FLAGS)),
    Ask(f"POST {_FLAGS}", "flag:write", _path(_FLAGS), _in(name="f")),
    Ask(f"GET {_FLAGS}/{{name}}", "flag:read", _flag(f"{_FLAGS}/f")),
    Ask(f"PUT {_FLAGS}/{{name}}", "flag:write", _flag(f"{_FLAGS}/f"), _always({})),
    Ask(f"PATCH {_FLAGS}/{{name}}", "flag:write", _flag(f"{_FLAGS}/f"), _always({})),
    Ask(f"DELETE {_FLAGS}/{{name}}", "flag:write", _flag(f"{_FLAGS}/f")),
    Ask(f"GET {_FLAGS}/{{name}}/history", "flag:read", _flag(f"{_FLAGS}/f/history")),
    Ask(f"GET {_FLAGS}/{{name}}/usage", "flag:read", _flag(f"{_FLAGS}/f/usage")),
    Ask(
        f"PUT {_FLAGS}/{{name}}/targets",
        "flag:write",
        _flag(f"{_FLAGS}/f/targets"),
        _always(["ann"]),
    ),
    Ask(
        f"POST {_FLAGS}/{{name}}/targets",
        "flag:write",
        _flag(f"{_FLAGS}/f/targets"),
        _always(["ann"]),
    ),
    Ask(
        f"DELETE {_FLAGS}/{{name}}/targets",
        "flag:write",
        _flag(f"{_FLAGS}/f/targets"),
        _always(["ann"]),
    ),
    Ask(f"POST {_FLAGS}/{{name}}/archive", "flag:write", _flag(f"{_FLAGS}/f/archive")),
    Ask(f"POST {_FLAGS}/{{name}}/restore", "flag:write", _flag(f"{_FLAGS}/f/restore")),
    Ask(
        f"POST {_FLAGS}/{{name}}/kill",
        "flag:write",
        _flag(f"{_FLAGS}/f/kill"),
        _always({"reason": "errors"}),
    ),
    Ask(
        f"POST {_FLAGS}/{{name}}/rollback",
        "flag:write",
        _flag(f"{_FLAGS}/f/rollback"),
        _always({"version": 1}),
    ),
    # To itself, so that one place decides; tests/e2e/test_flag_lifecycle.py has two.
    Ask(
        f"POST {_FLAGS}/{{name}}/copy",
        "flag:write",
        _flag(f"{_FLAGS}/f/copy"),
        lambda environment, _: {"to": environment},
    ),
    Ask("GET /api/v1/stale-flags", "flag:read", _flag("/api/v1/stale-flags")),
    Ask(f"GET {_FLAGS}/export", "flag:read", _flag(f"{_FLAGS}/export?format=flagd")),
    Ask(
        f"POST {_FLAGS}/import",
        "flag:write",
        _flag(f"{_FLAGS}/import?format=flagd"),
        _always({"flags": {}}),
    ),
    Ask(
        f"POST {_FLAGS}/evaluate",
        "flag:evaluate",
        _path(f"{_FLAGS}/evaluate"),
        _in(flag_name="f"),
    ),
    Ask(
        f"POST {_FLAGS}/evaluate",
        "flag:read",
        _path(f"{_FLAGS}/evaluate"),
        _in(flag_name="kept", explain=True),
    ),
    Ask(
        f"POST {_FLAGS}/evaluate/batch",
        "flag:evaluate",
        _path(f"{_FLAGS}/evaluate/batch"),
        _in(flag_names=["f"]),
    ),
    Ask("GET /api/v1/flag-set", "flag:read", _flag("/api/v1/flag-set")),
    Ask(
        "POST /api/v1/flag-usage",
        "flag:evaluate",
        _path("/api/v1/flag-usage"),
        _in(evaluations={}),
    ),
    Ask(f"GET {_SEGMENTS}", "flag:read", _flag(_SEGMENTS)),
    Ask(f"POST {_SEGMENTS}", "flag:write", _path(_SEGMENTS), _in(name="s")),
    Ask(f"GET {_SEGMENTS}/{{name}}", "flag:read", _flag(f"{_SEGMENTS}/s")),
    Ask(f"PUT {_SEGMENTS}/{{name}}", "flag:write", _flag(f"{_SEGMENTS}/s"), _always({})),
    Ask(f"PATCH {_SEGMENTS}/{{name}}", "flag:write", _flag(f"{_SEGMENTS}/s"), _always({})),
    Ask(f"DELETE {_SEGMENTS}/{{name}}", "flag:write", _flag(f"{_SEGMENTS}/s")),
    Ask(f"GET {_SEGMENTS}/{{name}}/history", "flag:read", _flag(f"{_SEGMENTS}/s/history")),
    # Of one environment to itself, so that one place decides; see tests/e2e/test_promotions.py.
    Ask(
        "POST /api/v1/promotions/compare",
        "config:read",
        _path("/api/v1/promotions/compare"),
        lambda environment, service: {
            "from": environment,
            "to": environment,
            "services": [service],
        },
    ),
    Ask(
        "POST /api/v1/promotions",
        "config:write",
        _path("/api/v1/promotions"),
        lambda environment, service: {
            "from": environment,
            "to": environment,
            "services": [service],
            "rows": [{"kind": "config", "service_name": service, "key": "a"}],
        },
    ),
    Ask("GET /api/v1/promotions/pins", "config:read somewhere", _path("/api/v1/promotions/pins")),
    Ask(
        "POST /api/v1/promotions/pins",
        "config:write",
        _path("/api/v1/promotions/pins"),
        _about(key="a"),
    ),
    Ask(
        "DELETE /api/v1/promotions/pins",
        "config:write",
        _key("/api/v1/promotions/pins?key=a"),
    ),
    Ask(f"GET {_REGISTRY}/services", "registry:read", _path(f"{_REGISTRY}/services")),
    Ask(f"GET {_SERVICE}", "registry:read", _service(_SERVICE)),
    Ask(f"GET {_SERVICE}/url", "registry:read", _service(f"{_SERVICE}/url")),
    Ask(
        f"GET {_REGISTRY}/discover/{{service}}",
        "registry:read",
        _service(f"{_REGISTRY}/discover/{{service}}"),
    ),
    Ask(f"GET {_REGISTRY}/prometheus", "registry:read", _path(f"{_REGISTRY}/prometheus")),
    Ask(
        f"POST {_REGISTRY}/register",
        "registry:write",
        _path(f"{_REGISTRY}/register"),
        _of(service_url="http://192.0.2.1:80", instance_id="i1"),
    ),
    Ask(
        f"POST {_REGISTRY}/deregister",
        "registry:write",
        _path(f"{_REGISTRY}/deregister"),
        _of(instance_id="i1"),
    ),
    Ask(
        f"PUT {_SERVICE}/instances/{{instance_id}}/heartbeat",
        "registry:write",
        _service(f"{_INSTANCE}/heartbeat"),
    ),
    Ask(
        f"POST {_SERVICE}/instances/{{instance_id}}/drain",
        "registry:write",
        _service(f"{_INSTANCE}/drain"),
    ),
    Ask(
        f"POST {_REGISTRY}/register",
        "registry:write there",
        _path(f"{_REGISTRY}/register"),
        lambda environment, service: {
            "service_name": service,
            "service_url": "http://192.0.2.1:80",
            "instance_id": f"new-{environment}",
            "metadata": {"environment": environment},
        },
    ),
    # With an epoch that is over: who may is told so, and all others find the instance there.
    Ask(
        f"POST {_REGISTRY}/deregister",
        "registry:write there",
        _path(f"{_REGISTRY}/deregister"),
        lambda environment, service: {
            "service_name": service,
            "instance_id": f"kept-{environment}",
            "epoch": 0,
        },
    ),
    Ask(
        f"POST {_REGISTRY}/deregister",
        "registry:write there",
        _path(f"{_REGISTRY}/deregister"),
        lambda environment, service: {
            "service_name": service,
            "service_url": f"http://kept-{environment}.example:80",
            "epoch": 0,
        },
    ),
    Ask(
        f"PUT {_SERVICE}/instances/{{instance_id}}/heartbeat",
        "registry:write there",
        _kept_instance("heartbeat"),
    ),
    Ask(
        f"POST {_SERVICE}/instances/{{instance_id}}/drain",
        "registry:write there",
        _kept_instance("drain"),
        _always({"epoch": 0}),
    ),
    Ask(f"POST {_SERVICE}/health", "registry:write", _service(f"{_SERVICE}/health")),
    Ask(f"POST {_SERVICE}/release", "registry:write everywhere", _service(f"{_SERVICE}/release")),
    Ask(
        f"POST {_REGISTRY}/release",
        "registry:write everywhere",
        _path(f"{_REGISTRY}/release"),
    ),
    Ask(
        "POST /ofrep/v1/evaluate/flags",
        "flag:evaluate",
        _path("/ofrep/v1/evaluate/flags"),
        _always({}),
        {"X-Environment": "{environment}"},
    ),
    Ask(
        "POST /ofrep/v1/evaluate/flags/{key}",
        "flag:evaluate",
        _path("/ofrep/v1/evaluate/flags/f"),
        _always({}),
        {"X-Environment": "{environment}"},
    ),
    Ask("GET /ofrep/v1/stream", "flag:evaluate", _flag("/ofrep/v1/stream")),
    Ask("GET /api/v1/releases", "config:read somewhere", _key("/api/v1/releases")),
    Ask("GET /api/v1/readers", "config:read somewhere", _key("/api/v1/readers")),
    Ask(
        "POST /api/v1/readers",
        "release:report",
        _path("/api/v1/readers"),
        _about(instance="pod-1", outcome="adopted"),
    ),
    # Of a release that there is not: who may is told so.
    Ask(f"GET {_RELEASE}", "config:read somewhere", _path(_NO_RELEASE)),
    *(
        Ask(
            f"POST {_RELEASE}/{move}",
            "config:read somewhere",
            _path(f"{_NO_RELEASE}/{move}"),
            _always({}),
        )
        for move in ("next", "hold", "resume", "abort")
    ),
    Ask(
        f"POST {_RELEASE}/reports",
        "release:report somewhere",
        _path(f"{_NO_RELEASE}/reports"),
        _always({"instance": "pod-1", "arm": "stable", "outcome": "adopted"}),
    ),
    Ask("GET /stats", "stats:read", _path("/stats")),
    Ask(
        "GET /api/v1/audit",
        "audit:read",
        lambda environment, service: f"/api/v1/audit?environment={environment}&name={service}",
    ),
    Ask("GET /api/v1/tokens", "token:manage", _path("/api/v1/tokens")),
    Ask("POST /api/v1/tokens", "token:manage", _path("/api/v1/tokens"), _always(_MINE)),
    Ask("GET /api/v1/tokens/{token_id}", "token:manage", _path("/api/v1/tokens/ghost")),
    Ask("DELETE /api/v1/tokens/{token_id}", "token:manage", _path("/api/v1/tokens/ghost")),
    Ask("GET /health", "anybody", _path("/health")),
    Ask("GET /live", "anybody", _path("/live")),
    Ask("GET /ready", "anybody", _path("/ready")),
    Ask("GET /metrics", "anybody", _path("/metrics")),
)
