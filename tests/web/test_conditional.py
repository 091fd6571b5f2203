"""Entity tags: weak comparison for reads, strong and by version for writes."""

from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, Response
from hypothesis import given
from hypothesis import strategies as st

from app.web import problem
from app.web.boundary import RequestBoundary
from app.web.conditional import (
    BadIfMatch,
    ExpectedVersions,
    IfMatch,
    IfNoneMatch,
    etag,
    expected_versions,
    matches,
    not_modified,
)

pytestmark = pytest.mark.anyio

Tag = Annotated[str, "as it stands in a header"]


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI(redirect_slashes=False)
    problem.install(app)
    app.add_middleware(RequestBoundary)

    @app.get("/thing")
    async def read(known: IfNoneMatch) -> Response:
        return not_modified('"3"', {"X-Revision": "9"}) if matches(known, '"3"') else Response("3")

    @app.put("/thing")
    async def write(expected: ExpectedVersions) -> bool:
        return expected.allows(3)

    return app


def test_a_tag_stands_in_quotes() -> None:
    assert etag("3-abc") == '"3-abc"'


@pytest.mark.parametrize(
    "header",
    ['"3"', "*", " * ", 'W/"3"', '"1", "3"', '"1","3"', ' "1" ,, "3",', '"a,b", W/"3"', ',"3"'],
)
def test_a_known_tag_is_found(header: Tag) -> None:
    assert matches(header, '"3"')
    assert matches(header, 'W/"3"')


@pytest.mark.parametrize(
    "header",
    [None, "", '"2"', '"33"', "3", '"3', '"1" "3"', '*, "3"', 'w/"3"', '"3" x', '"1", 3, "3"', ","],
)
def test_an_unknown_or_malformed_tag_is_not(header: Tag | None) -> None:
    assert not matches(header, '"3"')


def test_without_if_match_every_version_may_be_replaced() -> None:
    expected = expected_versions(None)

    assert not expected.is_stated
    assert expected.allows(0)
    assert expected.allows(3)


def test_a_star_expects_something_to_exist() -> None:
    expected = expected_versions("*")

    assert expected.allows(3)
    assert not expected.allows(0)


@pytest.mark.parametrize("header", ['"3"', '"3-0a_B-9"', '"1", "3-abc"', '"x", "3"', 'W/"2","3"'])
def test_a_tag_expects_its_version(header: Tag) -> None:
    expected = expected_versions(header)

    assert expected.allows(3)
    assert not expected.allows(2)
    assert not expected.allows(0)


def test_version_0_expects_an_empty_layer() -> None:
    expected = expected_versions('"0-abc"')

    assert expected.allows(0)
    assert not expected.allows(1)


@pytest.mark.parametrize("header", ['W/"3"', '"03"', '"3-"', '"-3"', '"v3"', '""', '"3 "', '"٣"'])
def test_a_weak_or_foreign_tag_expects_what_never_is(header: Tag) -> None:
    try:
        expected = expected_versions(header.encode().decode("latin-1"))
    except BadIfMatch:
        assert header == '"3 "'
    else:
        assert expected == IfMatch(is_stated=True)
        assert not any(expected.allows(version) for version in (0, 3))


@pytest.mark.parametrize("header", ["", "3", '"3', '"3" "4"', '*, "3"', "garbage", ","])
def test_a_malformed_if_match_is_refused(header: Tag) -> None:
    with pytest.raises(BadIfMatch):
        expected_versions(header)


@given(st.text(alphabet='"W/*, \t3-a', max_size=30))
def test_any_header_is_read_or_refused(header: str) -> None:
    matches(header, '"3"')
    try:
        expected_versions(header)
    except BadIfMatch:
        return


@given(st.lists(st.integers(0, 10**17), min_size=1), st.integers(0, 10**17))
def test_a_list_of_tags_allows_exactly_its_versions(versions: list[int], other: int) -> None:
    expected = expected_versions(", ".join(etag(str(version)) for version in versions))

    assert all(expected.allows(version) for version in versions)
    assert expected.allows(other) == (other in versions)


async def test_an_unchanged_resource_is_answered_without_a_body(client: httpx.AsyncClient) -> None:
    answer = await client.get(
        "/thing", headers=[("If-None-Match", '"1"'), ("If-None-Match", '"3"')]
    )

    assert answer.status_code == 304
    assert answer.content == b""
    assert answer.headers["etag"] == '"3"'
    assert answer.headers["x-revision"] == "9"


async def test_if_match_reaches_the_route(client: httpx.AsyncClient) -> None:
    answers = [
        await client.put("/thing", headers={"If-Match": tag}) for tag in ('"3-abc"', '"2"', "*")
    ]

    assert [answer.json() for answer in answers] == [True, False, True]
    assert (await client.put("/thing")).json() is True


async def test_a_malformed_if_match_is_a_problem(client: httpx.AsyncClient) -> None:
    answer = await client.put("/thing", headers={"If-Match": "3"})

    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_if_match"
