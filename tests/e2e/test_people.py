"""People of an OpenID Connect issuer, at a service that takes their tokens."""

from collections.abc import Iterator

import pytest

from tests.access.issuer import AUDIENCE, Issuer
from tests.e2e.client import body_of
from tests.servers.service import ServiceProcess

ADMIN = "administrator-beside-the-people-of-an-issuer"
ROLES = """[
    {"value": "platform", "role": "publisher", "services": ["shop"]},
    {"value": "readers", "role": "viewer"}
]"""
_SHOP = "/api/v1/effective?environment=production&service_name=shop"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def service(issuer: Issuer) -> Iterator[ServiceProcess]:
    settings = {
        "PILOTHOUSE_ACCESS": "required",
        "PILOTHOUSE_ADMIN_TOKEN": ADMIN,
        "OIDC_ISSUER": issuer.url,
        "OIDC_AUDIENCE": AUDIENCE,
        "OIDC_ROLES": ROLES,
    }
    with ServiceProcess(settings) as service:
        yield service


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_person_acts_under_their_name_and_within_their_roles(
    service: ServiceProcess, issuer: Issuer
) -> None:
    ana, ben = issuer.token(sub="ana"), issuer.token("ec", "ES256", sub="ben", groups=["readers"])
    body = {"config_data": {"host": "db1"}}
    way = "/api/configs/shop?environment=production"

    assert service.request("POST", way, body, headers=bearer(ben)).status == 403
    written = service.request("POST", way, body, headers=bearer(ana))
    read = service.request("GET", _SHOP, headers=bearer(ben))
    foreign = service.request("GET", _SHOP.replace("shop", "bank"), headers=bearer(ana))

    assert body_of(written, 201)["created_by"] == "user:ana"
    assert body_of(read)["data"] == {"host": "db1"}
    assert foreign.status == 403


def test_who_was_checked_once_is_known_in_both_doors(
    service: ServiceProcess, issuer: Issuer
) -> None:
    headers = bearer(issuer.token(groups=["readers"]))

    answers = [service.request("GET", _SHOP, headers=headers).status for _ in range(3)]

    assert answers == [200, 200, 200]


def test_a_forged_person_is_refused_after_a_true_one(
    service: ServiceProcess, issuer: Issuer
) -> None:
    genuine = issuer.token(groups=["readers"])
    assert service.request("GET", _SHOP, headers=bearer(genuine)).status == 200

    header, body, signature = genuine.split(".")
    turned = signature[:-6] + signature[-6:][::-1]
    answer = service.request("GET", _SHOP, headers=bearer(f"{header}.{body}.{turned}"))

    assert (answer.status, answer.json()["code"]) == (401, "token_refused")


def test_tokens_of_machines_are_taken_beside_people(service: ServiceProcess) -> None:
    assert service.request("GET", _SHOP, headers=bearer(ADMIN)).status == 200
