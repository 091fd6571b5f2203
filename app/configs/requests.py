"""What every configuration request carries: the addressed layer and the caller's wish."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Path, Query

from app.access.model import Caller, Right
from app.changes.model import Idempotency
from app.configs.edits import Edit
from app.configs.model import BASE, SHARED, DocumentId, document_id
from app.configs.plain_values import Place, nowhere
from app.configs.transfer import MEDIA_TYPES
from app.configs.writing import Write
from app.web.conditional import IfMatch
from app.web.openapi import KEY, NAME, USER

Environment = Annotated[
    str, Query(description="`default` is what every other inherits from.", json_schema_extra=NAME)
]
ServiceName = Annotated[
    str, Query(description="`_shared` is the layer all services inherit.", json_schema_extra=NAME)
]
User = Annotated[
    str | None, Query(description="Adds the layer of one user.", json_schema_extra=USER)
]
AddressedKey = Annotated[
    str, Path(description="A dotted path, e.g. `database.pool.size`.", json_schema_extra=KEY)
]
Reveal = Annotated[bool, Query(description="Decrypt secrets; audited, never cached.")]
Resolve = Annotated[bool, Query(description="`false`: the addressed layer only.")]

# As OpenAPI sees a file in each format: what can be parsed by its media type, or text.
FILES: dict[str, Any] = {
    media: {"schema": {"type": "object" if form in {"json", "yaml"} else "string"}}
    for form, media in MEDIA_TYPES.items()
}


async def _addressed(
    environment: Environment = BASE, service_name: ServiceName = SHARED, user: User = None
) -> DocumentId:
    return document_id(environment, service_name, user)


Addressed = Annotated[DocumentId, Depends(_addressed)]


def demand(caller: Caller, right: Right, document: DocumentId) -> None:
    """Raise Denied unless the caller has the right over the addressed document.

    The layers that it inherits from follow: whoever may read a service reads what it sees.
    """
    caller.demand(right, document.environment, document.service)


def sees_fingerprints(caller: Caller, document: DocumentId) -> bool:
    return caller.sees_fingerprints(document.environment, document.service)


def write_of(  # noqa: PLR0913 - what a request may say of a write
    document: DocumentId,
    edit: Edit,
    caller: Caller,
    comment: str = "",
    *,
    remark: str | None = None,
    expected: IfMatch | None = None,
    idempotency: Idempotency | None = None,
    replaces: bool = False,
    place: Place = nowhere,
) -> Write:
    return Write(
        document,
        edit,
        caller.actor(remark),
        caller.request_id,
        _remarked(comment, remark) if caller.is_known else comment,
        expected=expected.allows if expected is not None and expected.is_stated else None,
        replaces=replaces,
        idempotency=idempotency and idempotency.by(caller.principal.name),
        place=place,
        source=caller.source or None,
    )


def _remarked(comment: str, remark: str | None) -> str:
    """Keep whom the request names: the log has the caller who is known."""
    return comment if remark is None else f"{comment} (by {remark})".strip()


def at_value(key: str, value: Any) -> Place:
    """Find keys in a body whose `value` is what `key` gets."""
    return lambda found: "#/value" + _path(value, found.removeprefix(key).removeprefix("."))


def below(member: str, members: Mapping[str, Any]) -> Place:
    """Find keys in a body one `member` of which holds them, dotted or nested."""
    return lambda found: f"#/{member}" + _path(members, found)


def _path(members: object, key: str) -> str:
    """Return the pointer from an object to a key, empty where there is none."""
    names = key.split(".")
    for depth in range(len(names), 0, -1):
        name, rest = ".".join(names[:depth]), ".".join(names[depth:])
        if isinstance(members, Mapping) and name in members:
            inner = _path(members[name], rest)
            if inner or not rest:
                return f"/{name}{inner}"
    return ""
