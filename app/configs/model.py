"""Documents, their layers and the text they are stored as. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.changes.model import Action, Entity
from app.configs.errors import BadName
from pilothouse_core import strict_json
from pilothouse_core.credentials import CredentialRule
from pilothouse_core.names import is_name, is_user
from pilothouse_core.trees import Tree

SHARED = "_shared"
BASE = "default"
KIND = "config"
MAX_DOCUMENT_BYTES = 768 * 1024  # Vault answers 500 above 1 MiB of JSON string
# No more keys fit: each key takes more than 64 bytes, and each section it lies in two more and six.
MAX_KEYS = MAX_DOCUMENT_BYTES // 64
MAX_SECTIONS = MAX_DOCUMENT_BYTES // 8
_FORMAT = 1
_MAX_DEPTH = 256  # a key has up to 128 segments, and what it holds up to 64 levels


@dataclass(frozen=True, slots=True, order=True)
class DocumentId:
    """One layer's document: (environment, service) or (environment, service, user)."""

    environment: str
    service: str
    user: str | None = None

    @property
    def path(self) -> str:
        if self.user is None:
            return f"layers/{self.environment}/{self.service}"
        return f"users/{self.environment}/{self.service}/{self.user}"

    @property
    def entity(self) -> Entity:
        name = self.service if self.user is None else f"{self.service}/{self.user}"
        return Entity(KIND, self.environment, name, self.path)

    def __str__(self) -> str:
        of_user = f" for {self.user}" if self.user is not None else ""
        return f"{self.environment}/{self.service}{of_user}"


@dataclass(frozen=True, slots=True)
class DefaultsLayer(DocumentId):
    """Layer 0 of an effective configuration: the defaults of one schema. No document has it."""

    schema: str = ""
    version: int = 0

    @property
    def path(self) -> str:
        return f"schemas/{self.schema}"

    def __str__(self) -> str:
        return f"the defaults of the schema {self.schema}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A key whose plain value is a credential by a rule; `allowed` says why it may be one."""

    key: str
    rule: CredentialRule
    allowed: str = ""


def document_id(environment: str, service: str, user: str | None = None) -> DocumentId:
    """Name a document, or raise BadName: nothing is built from an unchecked name."""
    if not is_name(environment):
        raise BadName("an environment", environment)
    if not is_name(service):
        raise BadName("a service", service)
    if user is not None and not is_user(user):
        raise BadName("a user", user)
    return DocumentId(environment, service, user)


def document_at(path: str) -> DocumentId | None:
    """Return the document stored at `path`, or None if no document is stored there."""
    match path.split("/"):
        case ["layers", environment, service] if is_name(environment) and is_name(service):
            return DocumentId(environment, service)
        case ["users", environment, service, user] if (
            is_name(environment) and is_name(service) and is_user(user)
        ):
            return DocumentId(environment, service, user)
    return None


def layers_of(document: DocumentId) -> tuple[DocumentId, ...]:
    """Return the layers of an effective configuration, lowest first."""
    environment, service = document.environment, document.service
    layers = [
        DocumentId(BASE, SHARED),
        DocumentId(environment, SHARED),
        DocumentId(BASE, service),
        DocumentId(environment, service),
    ]
    if document.user is not None:
        layers.append(document)
    return tuple(dict.fromkeys(layers))


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who wrote a version, why and when; `id` is the intent's."""

    id: str
    action: Action
    actor: str
    comment: str
    at: str


@dataclass(frozen=True, slots=True)
class KeyFact:
    """When a key last changed. `secret_until`: the last version in which it was a secret.

    `places_until`: the same for places in the list that it was, see `app.configs.secrets`.
    `template`: the template that wrote it, "" if it was changed by hand since, or is not of any.
    """

    version: int
    actor: str
    at: str
    removed: bool = False
    secret_until: int = 0
    places_until: Mapping[str, int] = field(default_factory=dict)
    template: str = ""


@dataclass(frozen=True, slots=True)
class TemplateUse:
    """The version of a template that a document has used, and the values of its parameters.

    `at` is the key below which it was rendered, "" for the document itself.
    """

    version: int
    parameters: Mapping[str, Any] = field(repr=False)
    at: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """The content of one version of a document."""

    version: int
    change: Stamp
    created_by: str
    created_at: str
    deleted: bool = False
    data: Tree = field(default_factory=dict)
    keys: Mapping[str, KeyFact] = field(default_factory=dict)
    size: int = 0  # characters of the stored text, to bound memory
    without_secrets: bool = (
        False  # secrets are replaced by masks: cannot be revealed or written from
    )
    templates: Mapping[str, TemplateUse] = field(default_factory=dict)  # by their names


@dataclass(frozen=True, slots=True)
class Draft:
    """The data a write wants to store, or None when there is nothing to change.

    `templates`: what the version says of the templates in use, None for what its base says.
    `origins`: the templates of the keys that the write takes from one.
    """

    action: Action
    data: Tree | None
    deleted: bool = False
    findings: tuple[Finding, ...] = ()
    templates: Mapping[str, TemplateUse] | None = None
    origins: Mapping[str, str] = field(default_factory=dict)

    def templates_after(self, base: Body | None) -> Mapping[str, TemplateUse]:
        """Return the templates in use in the version that this becomes on top of `base`."""
        if self.templates is not None:
            return self.templates
        return {} if self.deleted or base is None else base.templates


def encode(body: Body) -> str:
    """Write a body as the text that is stored."""
    members: dict[str, object] = {
        "format": _FORMAT,
        "version": body.version,
        "change": {
            "id": body.change.id,
            "kind": body.change.action,
            "actor": body.change.actor,
            "comment": body.change.comment,
            "at": body.change.at,
        },
        "created": {"by": body.created_by, "at": body.created_at},
        "deleted": body.deleted,
        "data": body.data,
        "keys": {key: _encoded_fact(fact) for key, fact in body.keys.items()},
    }
    if body.templates:
        members["templates"] = {name: use_to_json(use) for name, use in body.templates.items()}
    return json.dumps(members, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def use_to_json(use: TemplateUse) -> dict[str, Any]:
    return {"version": use.version, "parameters": dict(use.parameters), "at": use.at}


def use_from_json(raw: Any) -> TemplateUse:
    """Read the use of a template; raises ValueError, KeyError or TypeError if it is not one."""
    parameters = raw["parameters"]
    if not isinstance(parameters, dict):
        raise TypeError("parameters that are no object")
    return TemplateUse(int(raw["version"]), parameters, str(raw["at"]))


def fact_size(key: str, fact: KeyFact) -> int:
    """Return the bytes that one fact takes in the stored text, with the comma before it."""
    text = json.dumps({key: _encoded_fact(fact)}, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode()) - 1


def _encoded_fact(fact: KeyFact) -> dict[str, object]:
    encoded: dict[str, object] = {"version": fact.version, "actor": fact.actor, "at": fact.at}
    if fact.removed:
        encoded["removed"] = True
    if fact.secret_until:
        encoded["secret_until"] = fact.secret_until
    if fact.places_until:
        encoded["places_until"] = dict(fact.places_until)
    if fact.template:
        encoded["from"] = fact.template
    return encoded


def decode(text: str) -> Body:
    """Read a stored text; raises ValueError, KeyError or TypeError if it is not one of ours."""
    raw: Any = strict_json.loads(text, max_depth=_MAX_DEPTH, exact=True)
    if raw["format"] != _FORMAT or not isinstance(raw["data"], dict):
        raise ValueError("an unknown format")
    change, created = raw["change"], raw["created"]
    return Body(
        version=int(raw["version"]),
        change=Stamp(
            id=str(change["id"]),
            action=change["kind"],
            actor=str(change["actor"]),
            comment=str(change["comment"]),
            at=str(change["at"]),
        ),
        created_by=str(created["by"]),
        created_at=str(created["at"]),
        deleted=bool(raw["deleted"]),
        data=raw["data"],
        keys={
            key: KeyFact(
                version=int(fact["version"]),
                actor=str(fact["actor"]),
                at=str(fact["at"]),
                removed=bool(fact.get("removed", False)),
                secret_until=int(fact.get("secret_until", 0)),
                places_until={
                    place: int(until) for place, until in fact.get("places_until", {}).items()
                },
                template=str(fact.get("from", "")),
            )
            for key, fact in raw["keys"].items()
        },
        size=len(text),
        templates={name: use_from_json(use) for name, use in raw.get("templates", {}).items()},
    )
