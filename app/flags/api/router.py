"""Feature flags and segments: reading and writing their definitions.

Both have the same routes. Each `_add_` function below adds one of them, once for flags and once
for segments.
"""

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from app.access.caller import CurrentCaller
from app.access.model import Right
from app.changes.idempotency import Idempotent
from app.changes.revisions import (
    REVISION_HEADER,
    Following,
    hold_until_changed,
    min_revision_dependency,
    wait_until_followed,
)
from app.flags.api.answers import (
    answer_item,
    answer_plan,
    answer_preview,
    answer_written,
    are_large,
)
from app.flags.api.definition_kind import FLAG, SEGMENT, DefinitionKind
from app.flags.api.requests import (
    ALL_ENVIRONMENTS,
    DryRun,
    EnvironmentParameter,
    EnvironmentsParameter,
    FlagName,
    Flags,
    Force,
    OptionalEnvironmentParameter,
    Why,
    stated_environment,
    write_request,
)
from app.flags.api.schemas import (
    BASE,
    FlagEdit,
    FlagIn,
    SegmentEdit,
    SegmentIn,
    UsageOut,
    VersionOut,
    WritePreviewOut,
)
from app.flags.definitions.plans import DeleteFlag, DeleteSegment
from app.flags.listing import FlagFilter, FlagListing
from app.flags.model import Item, Kind
from app.flags.service import FlagService
from app.web.bodies import StrictRoute
from app.web.conditional import ExpectedVersions, IfNoneMatch, etag, matches, not_modified
from app.web.freshness import Fresh, adds_stale_header, headers_so_far
from app.web.openapi import CREATED, DELETED, READ, TAGGED, UNCHANGED, WRITTEN_UNLESS_DRY
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor, fitting_items
from app.web.problem import PROBLEMS
from app.web.responses import model_response
from app.web.wait_preference import Wait

router = APIRouter(
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)
_OF_EVERY_ENVIRONMENT = (
    "Without any filter, or with `environment=*`, the list covers every environment that the "
    "caller may read."
)
_PREVIEWED: dict[int | str, dict[str, Any]] = {
    200: {"model": WritePreviewOut, "description": "With `dry_run=true`: nothing was written."}
}
_MOST_VERSIONS = 2**31 - 1  # what the store has room for


def _add_create(of: DefinitionKind) -> None:
    async def create(
        body: FlagIn | SegmentIn,
        response: Response,
        flags: Flags,
        caller: CurrentCaller,
        idempotency: Idempotent,
        *,
        dry_run: DryRun = False,
    ) -> Response:
        caller.demand(Right.WRITE_FLAGS, body.environment)
        request = write_request(caller, body.comment, idempotency=idempotency)
        plan = await flags.creation_plan(of.kind, body.members())
        if dry_run:
            return await answer_preview(response, flags, body.environment, plan, request)
        item = await flags.write(body.environment, plan, request)
        response.headers["Location"] = f"{of.path}/{item.name}?environment={item.environment}"
        return await answer_written(response, flags, item, 201)

    router.post(
        of.path,
        name=f"create_{of.kind}",
        status_code=201,
        response_model=of.answer,
        responses=CREATED | _PREVIEWED,
        tags=[of.tag],
        summary=f"Create a {of.kind}",
    )(of.shape_endpoint(create, body=of.body))


def _add_list(of: DefinitionKind) -> None:
    async def list_page(
        response: Response,
        flags: Flags,
        follower: Following,
        caller: CurrentCaller,
        environment: EnvironmentsParameter = None,
        enabled: Annotated[
            bool | None, Query(description="Only enabled, or only disabled flags.")
        ] = None,
        tag: Annotated[str | None, Query(description="Only flags with this tag.")] = None,
        q: Annotated[str | None, Query(description="Part of the name or description.")] = None,
        stale_days: Annotated[
            int | None,
            Query(ge=0, le=36_500, description="Only flags not evaluated for this many days."),
        ] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
        *,
        archived: Annotated[
            bool, Query(description="Only archived flags, which are not listed otherwise.")
        ] = False,
    ) -> Response:
        wanted = FlagFilter(enabled, tag, q, stale_days, archived)
        if environment == ALL_ENVIRONMENTS or (environment is None and wanted == FlagFilter()):
            names = [name for name in flags.environments() if caller.may(Right.READ_FLAGS, name)]
            await _set_revision_header(response, flags, follower, names)
            after = decode_cursor(cursor, str, str) if cursor else ("", "")
            items, more = await _page_of_all(flags.listing, of.kind, names, wanted, limit, after)
        else:
            name = BASE if environment is None else environment
            caller.demand(Right.READ_FLAGS, name)
            await _set_revision_header(response, flags, follower, [name])
            items = await flags.listing.list_items(of.kind, name, wanted)
            items, more = _page(items, limit, cursor)
        is_large = are_large(items)
        convert = of.answer.model_validate
        answers = await flags.presenter.convert_members(items, convert, is_large=is_large)
        return await model_response(
            is_large, lambda: of.page(items=answers, next=more), response.headers
        )

    router.get(
        of.path,
        name=f"list_{of.kind}s",
        response_model=of.page,
        responses=READ,
        tags=[of.tag],
        summary=f"List {of.kind}s",
        description=_OF_EVERY_ENVIRONMENT,
    )(of.shape_endpoint(list_page))


async def _page_of_all(
    listing: FlagListing,
    kind: Kind,
    names: Sequence[str],
    wanted: FlagFilter,
    limit: int,
    after: tuple[str, str],
) -> tuple[Sequence[Item], str | None]:
    rest: list[Item] = []
    for name in names:
        if name >= after[0] and len(rest) <= limit:
            items = await listing.list_items(kind, name, wanted)
            rest += [item for item in items if (item.environment, item.name) > after]
    page = fitting_items(rest[:limit], lambda item: len(item.definition))
    more = encode_cursor(page[-1].environment, page[-1].name) if len(rest) > len(page) else None
    return page, more


def _page(
    items: Sequence[Item], limit: int, cursor: str | None
) -> tuple[Sequence[Item], str | None]:
    after = decode_cursor(cursor, str)[0] if cursor else ""
    rest = [item for item in items if item.name > after]
    page = fitting_items(rest[:limit], lambda item: len(item.definition))
    more = encode_cursor(page[-1].name) if len(rest) > len(page) else None
    return page, more


async def _set_revision_header(
    response: Response, flags: FlagService, follower: Following, environments: Sequence[str]
) -> None:
    def newest() -> int:
        return max((flags.environment(name).revision for name in environments), default=0)

    response.headers[REVISION_HEADER] = str(await wait_until_followed(follower, newest))


def _add_read(of: DefinitionKind) -> None:
    async def read(
        name: FlagName,
        response: Response,
        flags: Flags,
        follower: Following,
        fresh: Fresh,
        known: IfNoneMatch,
        wait: Wait,
        caller: CurrentCaller,
        environment: EnvironmentParameter = BASE,
    ) -> Any:
        caller.demand(Right.READ_FLAGS, environment)

        def tag() -> str:
            item = flags.environment(environment).items.get((of.kind, name))
            return str(item.version if item is not None else 0)

        await hold_until_changed(tag, known, wait, follower, fresh, caller.require_still_valid)
        await _set_revision_header(response, flags, follower, [environment])
        item = flags.item(of.kind, environment, name)
        entity_tag = etag(str(item.version))
        if matches(known, entity_tag):
            return not_modified(entity_tag, headers_so_far(response))
        return await answer_item(response, flags, item)

    router.get(
        of.path + "/{name}",
        name=f"get_{of.kind}",
        response_model=of.answer,
        responses=TAGGED | UNCHANGED,
        tags=[of.tag],
        summary=f"Read a {of.kind}",
    )(read)


def _add_replace(of: DefinitionKind) -> None:
    async def replace(
        name: FlagName,
        body: FlagEdit | SegmentEdit,
        response: Response,
        flags: Flags,
        caller: CurrentCaller,
        expected: ExpectedVersions,
        environment: OptionalEnvironmentParameter = None,
        *,
        force: Force = False,
        dry_run: DryRun = False,
    ) -> Response:
        where = stated_environment(environment, body.environment)
        caller.demand(Right.WRITE_FLAGS, where)
        request = write_request(caller, body.comment, expected=expected)
        plan = await flags.replacement_plan(of.kind, where, name, body.members(), force=force)
        return await answer_plan(response, flags, where, plan, request, is_dry_run=dry_run)

    router.put(
        of.path + "/{name}",
        name=f"replace_{of.kind}",
        response_model=of.answer | WritePreviewOut,
        responses=WRITTEN_UNLESS_DRY,
        tags=[of.tag],
        summary=f"Replace a {of.kind}",
        description=of.descriptions.get("replace"),
    )(of.shape_endpoint(replace, body=of.edit))


def _add_change(of: DefinitionKind) -> None:
    async def change(
        name: FlagName,
        body: FlagEdit | SegmentEdit,
        response: Response,
        flags: Flags,
        caller: CurrentCaller,
        expected: ExpectedVersions,
        environment: OptionalEnvironmentParameter = None,
        *,
        force: Force = False,
        dry_run: DryRun = False,
    ) -> Response:
        where = stated_environment(environment, body.environment)
        caller.demand(Right.WRITE_FLAGS, where)
        request = write_request(caller, body.comment, expected=expected)
        plan = await flags.change_plan(of.kind, where, name, body.members(), force=force)
        return await answer_plan(response, flags, where, plan, request, is_dry_run=dry_run)

    router.patch(
        of.path + "/{name}",
        name=f"change_{of.kind}",
        response_model=of.answer | WritePreviewOut,
        responses=WRITTEN_UNLESS_DRY,
        tags=[of.tag],
        summary=f"Change single members of a {of.kind}",
    )(of.shape_endpoint(change, body=of.edit))


def _add_delete(of: DefinitionKind) -> None:
    async def delete(
        name: FlagName,
        response: Response,
        flags: Flags,
        caller: CurrentCaller,
        expected: ExpectedVersions,
        environment: EnvironmentParameter = BASE,
        comment: Why = "",
        *,
        dry_run: DryRun = False,
    ) -> Response:
        caller.demand(Right.WRITE_FLAGS, environment)
        request = write_request(caller, comment, expected=expected)
        plan = DeleteFlag(name) if of.kind == "flag" else DeleteSegment(name)
        if dry_run:
            return await answer_preview(response, flags, environment, plan, request)
        item = await flags.write(environment, plan, request)
        return Response(status_code=204, headers={REVISION_HEADER: str(item.revision)})

    router.delete(
        of.path + "/{name}",
        name=f"delete_{of.kind}",
        status_code=204,
        responses=DELETED | _PREVIEWED,
        tags=[of.tag],
        summary=f"Delete a {of.kind}",
        description=of.descriptions.get("delete"),
    )(delete)


def _add_history(of: DefinitionKind) -> None:
    async def history(
        name: FlagName,
        response: Response,
        flags: Flags,
        follower: Following,
        caller: CurrentCaller,
        environment: EnvironmentParameter = BASE,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response:
        caller.demand(Right.READ_FLAGS, environment)
        await _set_revision_header(response, flags, follower, [environment])
        before = min(decode_cursor(cursor, int)[0], _MOST_VERSIONS) if cursor else None
        versions = await flags.history(of.kind, environment, name, limit, before)
        page = fitting_items(versions, lambda version: 2 * len(version[0].definition))
        is_whole = len(page) < limit and len(page) == len(versions)
        more = None if is_whole or page[-1][0].version <= 1 else encode_cursor(page[-1][0].version)

        def body() -> Page[VersionOut]:
            items = [
                VersionOut.of(
                    item, action, json.loads(item.definition) if item.definition else None, diff
                )
                for item, action, diff in page
            ]
            return Page[VersionOut](items=items, next=more)

        return await model_response(are_large(item for item, _, _ in page), body, response.headers)

    router.get(
        of.path + "/{name}/history",
        name=f"{of.kind}_history",
        response_model=Page[VersionOut],
        responses=READ,
        tags=[of.tag],
        summary=f"Every version of a {of.kind}, newest first",
    )(history)


_ROUTES: tuple[Callable[[DefinitionKind], None], ...] = (
    _add_create,
    _add_list,
    _add_read,
    _add_replace,
    _add_change,
    _add_delete,
    _add_history,
)
for _add in _ROUTES:
    for _of in (FLAG, SEGMENT):
        _add(_of)


@router.get(
    FLAG.path + "/{name}/usage",
    responses=READ,
    tags=[FLAG.tag],
    summary="How often a flag is evaluated",
)
async def flag_usage(
    name: FlagName,
    response: Response,
    flags: Flags,
    follower: Following,
    caller: CurrentCaller,
    environment: EnvironmentParameter = BASE,
) -> UsageOut:
    caller.demand(Right.READ_FLAGS, environment)
    await _set_revision_header(response, flags, follower, [environment])
    return UsageOut.of(environment, name, await flags.usage(environment, name))
