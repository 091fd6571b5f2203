"""The two pages for people, as a browser and a program ask for them."""

import hashlib
import re
from base64 import b64encode
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from app.web import pages, problem
from app.web.boundary import RequestBoundary

pytestmark = pytest.mark.anyio

ASSETS = Path(pages.__file__).parent / "assets"
# Of swagger-ui-dist 5.35.0, as it was published.
PUBLISHED = {
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
}
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI(title="Pilot<house>", version="1.2", docs_url=None, redoc_url=None)
    problem.install(app)
    app.add_middleware(RequestBoundary)
    app.include_router(pages.router)
    return app


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        (BROWSER["Accept"], True),
        ("text/html", True),
        ("TEXT/HTML;q=0.5", True),
        ("application/json, text/html", True),
        ("application/json;q=0.9, text/html;q=0.8", False),
        ("text/html;q=0", False),
        ("text/html;q=high", False),
        ("application/json", False),
        ("*/*", False),
        ("", False),
        ("text/*", False),
    ],
)
async def test_the_root_is_a_page_for_browsers_and_json_for_programs(
    client: httpx.AsyncClient, accept: str, *, is_page: bool
) -> None:
    answer = await client.get("/", headers={"Accept": accept})

    assert answer.status_code == 200
    assert answer.headers["vary"] == "Accept"
    if is_page:
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "<h1>" in answer.text
        assert "Pilot&lt;house&gt;" in answer.text
        assert 'href="/docs"' in answer.text
    else:
        assert answer.json() == {
            "name": "Pilot<house>",
            "version": "1.2",
            "docs": "/docs",
            "openapi": "/openapi.json",
            "health": "/health",
            "ready": "/ready",
            "metrics": "/metrics",
        }


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_a_page_loads_files_of_this_service_alone_and_nothing_else_runs(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path, headers=BROWSER)

    [policy] = answer.headers.get_list("content-security-policy")
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"""(src|href)=["'](\w+:|//)""", answer.text)
    assert not re.search(r"<script>|<style| style=| on\w+=", answer.text)
    loaded = re.findall(
        r'<(?:script src|link rel="stylesheet" href)="([^"]+)" integrity="([^"]+)"', answer.text
    )
    assert loaded
    for file, integrity in loaded:
        content = (await client.get(file)).content
        assert integrity == "sha384-" + b64encode(hashlib.sha384(content).digest()).decode()
    assert len(loaded) == answer.text.count("<script") + answer.text.count('rel="stylesheet"')


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("swagger-ui.css", "text/css; charset=utf-8"),
        ("docs.js", "text/javascript; charset=utf-8"),
        ("page.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
async def test_a_file_is_sent_once_and_then_only_asked_for(
    client: httpx.AsyncClient, name: str, media_type: str
) -> None:
    answer = await client.get(f"/docs/{name}")
    again = await client.get(f"/docs/{name}", headers={"If-None-Match": answer.headers["etag"]})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "name", ["README.md", "docs.html", "none.js", "swagger-ui", "..%2Fpages.py", "%2e%2e/pages.py"]
)
async def test_no_other_file_is_served(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/docs/{name}")).status_code in {400, 404}


async def test_where_it_is_mounted_below_another_path_the_links_say_so(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app, root_path="/pilot")
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        page = (await client.get("/pilot/docs")).text
        answer = (await client.get("/pilot/")).json()

    assert 'src="/pilot/docs/docs.js"' in page
    assert 'data-openapi="/pilot/openapi.json"' in page
    assert answer["docs"] == "/pilot/docs"


def test_swagger_ui_is_what_was_published_with_its_licence() -> None:
    found = {
        name: hashlib.sha256((ASSETS / "swagger-ui" / name).read_bytes()).hexdigest()
        for name in PUBLISHED
    }

    assert found == PUBLISHED
    licence = (ASSETS / "swagger-ui" / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "5.35.0" in (ASSETS / "README.md").read_text()


async def test_there_is_no_second_page_of_the_api(client: httpx.AsyncClient) -> None:
    answer = await client.get("/redoc", headers=BROWSER)

    assert answer.status_code == 404
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; frame")
