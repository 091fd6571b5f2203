"""Every attribute of every model, put into every body that does not have it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.access.matrix import ASKS, PLACES, Ask
from tests.access.test_matrix import ADMIN, OPENAPI, Session
from tests.servers.service import ServiceProcess

DOCUMENT: Mapping[str, Any] = json.loads(OPENAPI.read_text())
SCHEMAS: Mapping[str, Any] = DOCUMENT["components"]["schemas"]
# Files and evaluation contexts of other systems: whatever they hold beyond what is read is ignored.
FOREIGN = ("/ofrep/", "/api/v1/import", "/api/v1/feature-flags/import")
ATTRIBUTES = sorted(
    {name for schema in SCHEMAS.values() for name in schema.get("properties", ())}
    # Of the domain's own objects, which no schema shows.
    | {"digest", "secret", "pepper", "grants", "rights", "may_reveal", "token_class", "owner"}
    | {"principal", "actor", "request_id", "source", "is_admin", "__class__", "__proto__"}
)


def _own(ask: Ask) -> frozenset[str]:
    """Return the attributes that the body of a route has."""
    method, path = ask.route.lower().split()[0], ask.route.split()[1]
    body = DOCUMENT["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
    names = [body, *body.get("anyOf", ())]
    found = [SCHEMAS[name["$ref"].rpartition("/")[2]] for name in names if "$ref" in name]
    return frozenset(name for schema in found for name in schema.get("properties", ()))


BODIES = [
    ask
    for ask in ASKS
    if ask.body is not None
    and not any(path in ask.route for path in FOREIGN)
    and not ask.route.endswith("/targets")  # a list has no attributes
]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    environment = {"PILOTHOUSE_ACCESS": "required", "PILOTHOUSE_ADMIN_TOKEN": ADMIN}
    with ServiceProcess(environment) as service:
        session = Session(service.url, ADMIN)
        yield session
        session.close()


@pytest.mark.parametrize("ask", BODIES, ids=lambda ask: ask.route)
def test_an_attribute_that_a_body_has_not_is_refused_by_its_name(
    ask: Ask, session: Session
) -> None:
    assert ask.body is not None
    body = ask.body(*PLACES["own"])
    own = _own(ask)
    assert body.keys() <= own

    taken = []
    for attribute in set(ATTRIBUTES) - own:
        method, path = ask.route.split()[0], ask.path(*PLACES["own"])
        status, answer = session.ask(method, path, {**body, attribute: "injected"})
        places = {error.get("pointer") for error in (answer or {}).get("errors", ())}
        if status != 422 or f"#/{attribute}" not in places:
            taken.append((attribute, status, answer))
    assert taken == []
