"""What an installation holds, as far as the caller may read it."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pilothouse.cli.api import Api
from pilothouse.cli.exit_codes import ExitCode, Failure, failure
from pilothouse.cli.folders.entries import FOLDERS, USERS, Content, Entry, Kind, Present
from pilothouse_core import strict_json

ROUTES: Mapping[Kind, str] = {
    "schema": "/api/v1/schemas",
    "template": "/api/v1/templates",
    "segment": "/api/v1/segments",
    "flag": "/api/v1/feature-flags",
    "policy": "/api/v1/policies",
}
DOCUMENTS = "/api/configs"
KEYS = "/api/v1/config"
_DEFINITIONS: tuple[Kind, ...] = ("schema", "template", "policy")
_OF_THE_SERVICE = frozenset(
    {
        "name",
        "environment",
        "version",
        "created_at",
        "updated_at",
        "updated_by",
        "comment",
        "last_evaluated_at",
        "archived",
        # The simple form of a flag, which its rules say as well.
        "rollout_percentage",
        "target_users",
    }
)


@dataclass(frozen=True)
class Installation:
    """`groups` are the kinds of contents that were read; `unread` says why others were not."""

    entries: Mapping[Entry, Present]
    groups: Collection[str]
    unread: Mapping[str, str] = field(default_factory=dict)


def read_installation(
    api: Api,
    environment: str | None = None,
    named: Iterable[Entry] = (),
    *,
    with_users: bool = True,
) -> Installation:
    """Read all layers, flags, segments, schemas, templates and policies; raises Failure.

    With an environment: its layers, flags and segments. A kind that the caller may not read, or
    that the service does not have, is left out. Layers of users without any key are read only if
    they are among the `named` entries.
    """
    entries: dict[Entry, Present] = {}
    groups: list[str] = []
    unread: dict[str, str] = {}
    kinds: tuple[Kind, ...] = ("config", "flag", "segment")
    for kind in kinds if environment is not None else (*kinds, *_DEFINITIONS):
        try:
            entries |= _read_kind(api, kind, environment)
        except Failure as refused:
            if refused.exit_code not in {ExitCode.NOT_FOUND, ExitCode.DENIED}:
                raise
            if refused.exit_code == ExitCode.DENIED:
                unread[FOLDERS[kind]] = str(refused)
        else:
            groups.append(FOLDERS[kind])
    if with_users:
        named_layers = {entry for entry in named if entry.user}
        layers = named_layers.union(_user_layers(api, environment))
        entries |= _read_layers(api, sorted(layers))
        groups.append(USERS)
    return Installation(entries, groups, unread)


def _read_kind(api: Api, kind: Kind, environment: str | None) -> dict[Entry, Present]:
    if kind == "config":
        items = api.items(DOCUMENTS, environment=environment)
        layers = [Entry("config", item["environment"], item["service_name"]) for item in items]
        return _read_layers(api, layers)
    if kind in _DEFINITIONS:
        return _present_items(kind, api.items(ROUTES[kind]))
    where = environment or "*"
    entries = _present_items(kind, api.items(ROUTES[kind], environment=where))
    if kind == "flag":
        items = api.items(ROUTES[kind], environment=where, archived=True)
        entries |= _present_items(kind, items)
    return entries


def _present_items(kind: Kind, items: Iterator[Content]) -> dict[Entry, Present]:
    found = {}
    for item in items:
        entry = Entry(kind, item.get("environment", ""), item["name"])
        content = {name: value for name, value in item.items() if name not in _OF_THE_SERVICE}
        is_archived = item.get("archived") is True
        if is_archived:
            content["archived"] = True
        found[entry] = Present(content, item["version"], is_archived)
    return found


def _user_layers(api: Api, environment: str | None) -> set[Entry]:
    """Return the layers of users, which are listed by their keys only."""
    query = {} if environment is None else {"environment": environment, "service_name": "*"}
    sources = (item["source"] for item in api.items(KEYS, **query))
    return {
        Entry("config", source["environment"], source["service_name"], source["user"])
        for source in sources
        if source.get("user")
    }


def _read_layers(api: Api, layers: list[Entry]) -> dict[Entry, Present]:
    present = ((layer, read_layer(api, layer)) for layer in layers)
    return {layer: each for layer, each in present if each is not None}


def read_layer(api: Api, layer: Entry) -> Present | None:
    """Read one layer with its secrets masked, None if there is none (any more)."""
    query = layer_query(layer)
    try:
        answer = api.get("/api/v1/export", format="json", **query)
    except Failure as refused:
        if refused.exit_code != ExitCode.NOT_FOUND:
            raise
        return None
    content: Any = strict_json.loads(answer.body.decode())
    return Present(content, _version_of(answer.etag))


def _version_of(etag: str) -> int:
    """Return the version in an ETag, also in one that a proxy has weakened."""
    number = re.search("[0-9]+", etag)
    if number is None:
        raise failure(
            "bad_answer", "the service does not say which version this is", ExitCode.FAILED
        )
    return int(number[0])


def layer_query(layer: Entry) -> dict[str, Any]:
    return {
        "environment": layer.environment,
        "service_name": layer.name,
        "user": layer.user or None,
    }
