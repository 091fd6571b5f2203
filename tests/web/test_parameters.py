"""A request with an unknown query parameter is refused, and told which."""

from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query

from app.web import problem
from app.web.boundary import RequestBoundary
from app.web.parameters import rejects_unknown_parameters

pytestmark = pytest.mark.anyio
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def _revision_parameter(min_revision: int = 0) -> int:
    return min_revision


async def _address_parameters(
    environment: str = "default", revision: Annotated[int, Depends(_revision_parameter)] = 0
) -> str:
    return f"{environment}@{revision}"


@pytest.fixture
def app() -> FastAPI:
    router = APIRouter(prefix="/things")

    async def thing(
        name: str,
        where: Annotated[str, Depends(_address_parameters)],
        form: Annotated[str, Query(alias="format")] = "json",
        keys: Annotated[list[str] | None, Query(alias="keys[]")] = None,
    ) -> str:
        return f"{name} {where} {form} {keys}"

    router.add_api_route("/{name}", thing, methods=[*METHODS])
    app = FastAPI()
    problem.install(app)
    app.add_middleware(RequestBoundary)
    app.include_router(router, prefix="/api", dependencies=[rejects_unknown_parameters])
    return app


@pytest.mark.parametrize("method", METHODS)
async def test_a_request_is_told_each_unknown_parameter(
    client: httpx.AsyncClient, method: str
) -> None:
    query = "env=hunter2&environment=a&form=yaml&env=again"

    for _ in range(2):  # what a route knows is found out once
        answer = await client.request(method, f"/api/things/a?{query}")

        assert answer.status_code == 422
        assert answer.json()["code"] == "invalid"
        known = "Unknown parameter; did you mean"
        assert answer.json()["errors"] == [
            {"parameter": "env", "detail": f"{known} 'environment'?", "code": "extra_forbidden"},
            {"parameter": "form", "detail": f"{known} 'format'?", "code": "extra_forbidden"},
        ]
        assert "hunter2" not in answer.text


@pytest.mark.parametrize("method", METHODS)
async def test_a_request_knows_what_its_dependencies_take_and_names_in_the_query(
    client: httpx.AsyncClient, method: str
) -> None:
    query = "environment=staging&min_revision=7&format=yaml&keys[]=a&keys[]=b"

    answer = await client.request(method, f"/api/things/a?{query}")

    assert answer.json() == "a staging@7 yaml ['a', 'b']"


async def test_a_parameter_of_the_path_is_none_of_the_query(client: httpx.AsyncClient) -> None:
    assert (await client.put("/api/things/a?name=b")).status_code == 422


@pytest.mark.parametrize("query", ["env", "=", "%E2%80%93environment=a", "Environment=a"])
async def test_a_name_that_is_nearly_right_is_wrong(client: httpx.AsyncClient, query: str) -> None:
    assert (await client.put(f"/api/things/a?{query}")).status_code == 422
