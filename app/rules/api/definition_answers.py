"""What routes of templates and policies have in common: the rights, and the answers."""

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Query, Response
from pydantic import BaseModel

from app.access.errors import Denied
from app.access.model import Caller, Right
from app.changes.follower import Follower
from app.changes.revisions import REVISION_HEADER, wait_until_followed
from app.rules.api.definition_schemas import DefinitionDiffOut, DefinitionVersionOut
from app.rules.definitions.model import Definition, Scope
from app.rules.policies.model import Authority
from app.rules.services.definitions import DefinitionRequest, DefinitionService, DefinitionWritten
from app.web.conditional import ANY_VERSION, IfMatch, IfNoneMatch, etag, matches, not_modified
from app.web.freshness import headers_so_far
from app.web.paging import Page, decode_cursor, encode_cursor, fitting_items
from app.web.responses import model_response
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.diff import diff

Comment = Annotated[
    str, Query(max_length=1000, description="Reason for the change; kept in the history.")
]
_MOST_VERSIONS = 2**31 - 1  # what the store has room for
Version = Annotated[int | None, Query(ge=1, le=_MOST_VERSIONS)]
Out = TypeVar("Out", bound=BaseModel)


def demand_read(caller: Caller) -> None:
    """Raise Denied unless the caller may read configurations anywhere."""
    if not caller.has_right_anywhere(Right.READ_CONFIGS):
        raise Denied(Right.READ_CONFIGS, "", "")


def demand_in(caller: Caller, right: Right, scopes: Sequence[Scope]) -> None:
    """Raise Denied unless each pattern of where a definition applies lies within one grant.

    Of what applies nowhere, because it is deleted, only a caller learns who may write somewhere.
    """
    if not caller.has_right_anywhere(right):
        raise Denied(right, "", "")
    for scope in scopes:
        for environment in scope.environments:
            for service in scope.services:
                caller.demand(right, environment, service)


def definition_request(
    caller: Caller, right: Right, comment: str, expected: IfMatch = ANY_VERSION
) -> DefinitionRequest:
    return DefinitionRequest(
        caller.actor(),
        comment,
        caller.request_id,
        lambda scopes: demand_in(caller, right, scopes),
        expected,
        caller.source or None,
        Authority(bypass_reason=caller.bypass_reason),
    )


async def set_revision(response: Response, service: DefinitionService, follower: Follower) -> None:
    newest = await wait_until_followed(follower, lambda: service.catalog.revision)
    response.headers[REVISION_HEADER] = str(newest)


async def page_of(
    definitions: Sequence[Definition],
    limit: int,
    cursor: str | None,
    shown: Callable[[Definition], Out],
) -> Page[Out]:
    """Return a page of definitions that are ordered by name."""
    after = decode_cursor(cursor, str)[0] if cursor else ""
    rest = [each for each in definitions if each.name > after]
    page = fitting_items(rest[:limit], lambda each: len(each.text))
    more = encode_cursor(page[-1].name) if len(rest) > len(page) else None
    items = await run_apart(_are_large(page), lambda: [shown(each) for each in page])
    return Page(items=items, next=more)


async def answer_version(
    response: Response,
    definition: Definition,
    known: IfNoneMatch,
    shown: Callable[[Definition], BaseModel],
) -> Response:
    """Answer one version, or that the caller knows it."""
    tag = etag(str(definition.version))
    if matches(known, tag):
        return not_modified(tag, headers_so_far(response))
    response.headers["ETag"] = tag
    return await model_response(
        _are_large([definition]), lambda: shown(definition), response.headers
    )


async def answer_written(
    response: Response,
    written: DefinitionWritten,
    path: str,
    shown: Callable[[DefinitionWritten], BaseModel],
    *,
    dry_run: bool = False,
) -> Response:
    """Answer what was written: 201 with its place below `path` if it is new."""
    definition = written.definition
    status = 200
    if not dry_run:
        response.headers["ETag"] = etag(str(definition.version))
        response.headers[REVISION_HEADER] = str(definition.revision)
        if written.changed and definition.action == "created":
            response.headers["Location"] = f"{path}/{definition.name}"
            status = 201
    return await model_response(
        _are_large([definition]), lambda: shown(written), response.headers, status
    )


async def history_page(
    service: DefinitionService, name: str, limit: int, cursor: str | None
) -> Page[DefinitionVersionOut]:
    before = min(decode_cursor(cursor, int)[0], _MOST_VERSIONS) if cursor else None
    versions = await service.history(name, limit, before)
    page = fitting_items(versions, lambda each: len(each.text))
    is_last = not page or page[-1].version <= 1
    more = None if is_last else encode_cursor(page[-1].version)
    items = await run_apart(
        _are_large(page), lambda: [DefinitionVersionOut.of(each) for each in page]
    )
    return Page(items=items, next=more)


async def diff_of_versions(
    service: DefinitionService, name: str, old_version: int | None, new_version: int | None
) -> DefinitionDiffOut:
    newest = (await service.history(name, 1))[0].version
    new = newest if new_version is None else new_version
    old = max(new - 1, 1) if old_version is None else old_version
    before, after = await service.version(name, old), await service.version(name, new)
    difference = await run_apart(
        _are_large([before, after]), lambda: diff(_members(before), _members(after))
    )
    return DefinitionDiffOut.of(name, (old, new), difference)


def _members(definition: Definition) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(definition.text) if definition.text else {}
    return members


def _are_large(definitions: Sequence[Definition]) -> bool:
    return sum(len(each.text) for each in definitions) > LARGE_TEXT
