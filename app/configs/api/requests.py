"""Parameters of configuration requests: the addressed layer, options and preconditions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from fastapi import Depends, Path, Query

from app.access.model import Caller, Right
from app.changes.model import Idempotency
from app.configs.checks.errors import SchemaViolated, SecretInPlain
from app.configs.documents.attempt import Outcome, Write
from app.configs.documents.edits import Edit
from app.configs.documents.writer import DocumentWriter
from app.configs.errors import AddressContradicts, BadName, CredentialInPlainValue
from app.configs.model import BASE, SHARED, DocumentId, document_id
from app.configs.services.read_options import ReadOptions
from app.configs.services.reveal import RevealService
from app.configs.services.transfer import MEDIA_TYPES
from app.rules.policies.model import Authority
from app.web.conditional import ANY_VERSION, IfMatch
from app.web.openapi import INSTANCE_ID, KEY, NAME, USER
from app.web.request_state import from_state
from pilothouse_core.keys import canonical_key, key_of, names_of
from pilothouse_core.names import is_instance_id

Environment = Annotated[
    str, Query(description="All other environments inherit from `default`.", json_schema_extra=NAME)
]
ServiceName = Annotated[
    str,
    Query(description="`_shared` is the layer that all services inherit.", json_schema_extra=NAME),
]
User = Annotated[
    str | None, Query(description="Adds the layer of one user.", json_schema_extra=USER)
]
PathKey = Annotated[
    str,
    Path(
        description="A dotted path, e.g. `database.pool.size`; `-` if the query has `key`.",
        json_schema_extra=KEY,
    ),
]
QueryKey = Annotated[
    str | None,
    Query(
        alias="key",
        description="The key, instead of the one in the path, for keys with a slash such as "
        "`nodeSelector[kubernetes.io/os]`.",
        json_schema_extra=KEY,
    ),
]


async def _addressed_key(key: PathKey, named: QueryKey = None) -> str:
    return canonical_key(key if named is None else named)


AddressedKey = Annotated[str, Depends(_addressed_key)]
Reveal = Annotated[bool, Query(description="Decrypt secrets; audited, never cached.")]
Resolve = Annotated[bool, Query(description="`false`: the addressed layer only.")]


async def _read_options(
    *,
    resolve_placeholders: Annotated[
        bool, Query(description="Replace `${key}` and `${key:default}` with values.")
    ] = False,
    relaxed_names: Annotated[
        bool,
        Query(
            description="Treat `first-name`, `firstName` and `first_name` as one name, like Spring."
        ),
    ] = False,
    defaults: Annotated[
        bool, Query(description="Add the defaults of schemas, below all layers.")
    ] = False,
    instance: Annotated[
        str | None,
        Query(
            description="The id of the reading instance: while a release is running, it decides "
            "which arm is answered. What the instance reads is shown at `/readers`.",
            json_schema_extra=INSTANCE_ID,
        ),
    ] = None,
) -> ReadOptions:
    if instance is not None and not is_instance_id(instance):
        raise BadName("an instance", instance)
    return ReadOptions(resolve_placeholders, relaxed_names, defaults, instance)


Writer = Annotated[DocumentWriter, from_state("writer")]
Reveals = Annotated[RevealService, from_state("reveals")]
ReadOptionsQuery = Annotated[ReadOptions, Depends(_read_options)]

# As OpenAPI sees a file in each format: what can be parsed by its media type, or text.
FILES: dict[str, Any] = {
    media: {"schema": {"type": "object" if form in {"json", "yaml"} else "string"}}
    for form, media in MEDIA_TYPES.items()
}


async def _addressed_document(
    environment: Environment = BASE, service_name: ServiceName = SHARED, user: User = None
) -> DocumentId:
    return document_id(environment, service_name, user)


AddressedDocument = Annotated[DocumentId, Depends(_addressed_document)]


class AddressBody(Protocol):
    """A body that may also name the layer."""

    environment: str | None
    service_name: str | None
    user: str | None


def address_of_query_or_body(
    document: DocumentId, body: AddressBody, query: Mapping[str, str]
) -> DocumentId:
    """Return the layer that the query or the body states; raises AddressContradicts."""
    names = {
        "environment": document.environment,
        "service_name": document.service,
        "user": document.user,
    }
    for name, of_query in list(names.items()):
        stated = getattr(body, name)
        if stated is not None and name in query and stated != of_query:
            raise AddressContradicts(name)
        if stated is not None:
            names[name] = stated
    return document_id(str(names["environment"]), str(names["service_name"]), names["user"])


ANY = "*"
PointerOf = Callable[[str], str]
"""Map a key to the JSON pointer of its value in the request body, "" if unknown."""


@dataclass(frozen=True, slots=True)
class Span:
    """The layers that a list covers; None means every environment, service or user."""

    environment: str | None
    service: str | None
    user: str | None

    def holds(self, document: DocumentId) -> bool:
        return (
            self.environment in {None, document.environment}
            and self.service in {None, document.service}
            and self.user in {None, document.user}
        )


SpannedEnvironment = Annotated[
    str | None,
    Query(description="`*`: all. Default: `default` if another filter is given, otherwise all."),
]
SpannedService = Annotated[
    str | None,
    Query(description="`*`: all. Default: `_shared` if another filter is given, otherwise all."),
]


def span_of(
    environment: str | None, service: str | None, user: str | None, *, is_filtered: bool
) -> Span | DocumentId:
    """Return the one layer that is addressed, or the span where none is; raises BadName.

    What is not given is `default` and `_shared` where anything is, else everything.
    """
    if environment is None and service is None and user is None and not is_filtered:
        return Span(None, None, None)
    if ANY not in {environment, service}:
        return document_id(
            BASE if environment is None else environment,
            SHARED if service is None else service,
            user,
        )
    named = document_id(
        BASE if environment in {None, ANY} else str(environment),
        SHARED if service in {None, ANY} else str(service),
        user,
    )
    return Span(
        None if environment in {None, ANY} else named.environment,
        None if service in {None, ANY} else named.service,
        user,
    )


def demand(caller: Caller, right: Right, document: DocumentId) -> None:
    """Raise Denied unless the caller has the right over the addressed document.

    It includes the inherited layers: a right to a service covers its effective configuration.
    """
    caller.demand(right, document.environment, document.service)


def sees_fingerprints(caller: Caller, document: DocumentId) -> bool:
    return caller.can_see_fingerprints(document.environment, document.service)


def write_of(  # noqa: PLR0913 - what a request may say of a write
    document: DocumentId,
    edit: Edit,
    caller: Caller,
    comment: str = "",
    *,
    remark: str | None = None,
    expected: IfMatch = ANY_VERSION,
    idempotency: Idempotency | None = None,
    replaces: bool = False,
) -> Write:
    return Write(
        document,
        edit,
        caller.actor(remark),
        caller.request_id,
        _comment_with_remark(comment, remark) if caller.is_known else comment,
        expected=expected,
        replaces=replaces,
        idempotency=idempotency and idempotency.by(caller.principal.actor),
        source=caller.source or None,
        authority=Authority(bypass_reason=caller.bypass_reason),
        may_read=lambda pair: caller.may(Right.READ_CONFIGS, pair.environment, pair.service),
    )


def _comment_with_remark(comment: str, remark: str | None) -> str:
    """Append the author that the request names; the log has the authenticated caller."""
    return comment if remark is None else f"{comment} (by {remark})".strip()


async def carry_out(
    writer: DocumentWriter, write: Write, pointer_of: PointerOf = lambda _: ""
) -> Outcome:
    """Write; an error because of single values points to their places in the request body."""
    try:
        return await writer.write(write)
    except (CredentialInPlainValue, SecretInPlain) as error:
        raise type(error)(error.found, pointer_of) from None  # type: ignore[arg-type]
    except SchemaViolated as error:
        raise error.shown_to(write.may_read, pointer_of) from None


def pointer_in_value(key: str, value: Any) -> PointerOf:
    """Find keys in a body whose `value` is what `key` gets."""
    return lambda leaf: "#/value" + _path(value, leaf.removeprefix(key).removeprefix("."))


def pointer_below(member: str, members: Mapping[str, Any]) -> PointerOf:
    """Find keys in a body one `member` of which holds them, dotted or nested."""
    return lambda key: f"#/{member}" + _path(members, key)


def _path(members: object, key: str) -> str:
    """Return the pointer from an object to a key, "" if there is none."""
    return _path_of(members, names_of(key))


def _path_of(members: object, names: Sequence[str]) -> str:
    if not isinstance(members, Mapping):
        return ""
    for depth in range(len(names), 0, -1):
        for name in {key_of(names[:depth]), *names[:1][: 2 - depth]}:
            inner = _path_of(members[name], names[depth:]) if name in members else ""
            if inner or (name in members and depth == len(names)):
                return f"/{name.replace('~', '~0').replace('/', '~1')}{inner}"
    return ""
