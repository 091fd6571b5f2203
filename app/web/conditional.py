"""Conditional requests (RFC 9110, section 13): entity tags, `If-Match`, `If-None-Match`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Response
from pydantic import WithJsonSchema

from app.errors import Unparsable

# One element of a list; RFC 9110 lets a list have empty ones.
_ELEMENT = re.compile(r'[ \t]*(?:((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*)?(?:,|\Z)')
# The version of the addressed layer; 0 if it is empty and others contribute.
_OUR_TAG = re.compile(r'"(0|[1-9][0-9]{0,17})(?:-[A-Za-z0-9_-]+)?"')


class BadIfMatch(Unparsable):
    code = "bad_if_match"

    def __init__(self) -> None:
        super().__init__("If-Match is neither `*` nor a list of entity tags in double quotes")


class _Malformed(ValueError):
    pass


@dataclass(frozen=True, slots=True)
class IfMatch:
    """Which versions of the addressed layer a write may replace."""

    is_stated: bool = False
    any_existing: bool = False
    versions: frozenset[int] = frozenset()

    def allows(self, version: int) -> bool:
        """Whether a layer at `version` (0: empty) may be replaced."""
        if not self.is_stated:
            return True
        return version in self.versions or (self.any_existing and version > 0)


ANY_VERSION = IfMatch()


def etag(value: str) -> str:
    return f'"{value}"'


def matches(if_none_match: str | None, tag: str) -> bool:
    """Compare weakly; a malformed header matches nothing, so the response is complete."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    try:
        known = {tag.removeprefix("W/") for tag in _tags(if_none_match)}
    except _Malformed:
        return False
    return tag.removeprefix("W/") in known


def expected_versions(if_match: str | None) -> IfMatch:
    """Parse `If-Match`; raises `BadIfMatch` if it is malformed.

    Weak tags and tags of another form are valid and match no version.
    """
    if if_match is None:
        return ANY_VERSION
    if if_match.strip() == "*":
        return IfMatch(is_stated=True, any_existing=True)
    try:
        ours = [_OUR_TAG.fullmatch(tag) for tag in _tags(if_match)]
    except _Malformed as error:
        raise BadIfMatch from error
    return IfMatch(is_stated=True, versions=frozenset(int(tag[1]) for tag in ours if tag))


def not_modified(tag: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status_code=304, headers={**(headers or {}), "ETag": tag})


def _tags(header: str) -> list[str]:
    """Split a list of entity tags (commas inside the quotes belong to the tag), or raise."""
    tags: list[str] = []
    position = 0
    while position < len(header):
        element = _ELEMENT.match(header, position)
        if element is None:
            raise _Malformed
        if element[1]:
            tags.append(element[1])
        position = element.end()
    if not tags:
        raise _Malformed
    return tags


async def _if_match(
    if_match: Annotated[
        list[str] | None,
        WithJsonSchema({"type": "string"}),
        Header(
            alias="If-Match",
            description="Replace only a version with one of these tags; otherwise 412.",
        ),
    ] = None,
) -> IfMatch:
    return expected_versions(None if if_match is None else ",".join(if_match))


async def _if_none_match(
    if_none_match: Annotated[
        list[str] | None,
        WithJsonSchema({"type": "string"}),
        Header(
            alias="If-None-Match",
            description="304 while the resource has one of these tags.",
        ),
    ] = None,
) -> str | None:
    return None if if_none_match is None else ",".join(if_none_match)


ExpectedVersions = Annotated[IfMatch, Depends(_if_match)]
IfNoneMatch = Annotated[str | None, Depends(_if_none_match)]
