"""JSON Web Tokens: who is let in, and everything that is tried instead."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import OctKey, RSAKey

from app.access.errors import IssuerUnavailable, TokenRefused
from app.access.model import Right
from app.access.oidc.authenticator import OidcAuthenticator, RoleMapping
from app.access.oidc.jwks import IssuerKeys
from tests.access.issuer import AUDIENCE, Issuer
from tests.servers.deadlines import PATIENT_SECONDS

ROLES = (
    RoleMapping("platform", "publisher", ("staging", "eu-*"), ("shop",)),
    RoleMapping("platform", "secrets:reveal", ("staging",), ("shop",)),
    RoleMapping("everybody", "viewer"),
)
Forge = Callable[[Issuer], str]


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


def people_of(issuer: Issuer, keys: IssuerKeys, **others: Any) -> OidcAuthenticator:
    settings: dict[str, Any] = {"name_claim": "sub", "roles_claim": "groups", **others}
    return OidcAuthenticator(
        keys, issuer.url, AUDIENCE, roles=ROLES, protected=("eu-*",), **settings
    )


@pytest.fixture
async def keys(issuer: Issuer) -> AsyncIterator[IssuerKeys]:
    keys = IssuerKeys(issuer.url, seconds=PATIENT_SECONDS)
    yield keys
    await keys.close()


@pytest.fixture
def people(issuer: Issuer, keys: IssuerKeys) -> OidcAuthenticator:
    return people_of(issuer, keys)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [("rsa", "RS256"), ("rsa", "PS256"), ("rsa", "RS512"), ("ec", "ES256"), ("ed", "Ed25519")],
)
async def test_whoever_the_issuer_names_is_let_in(
    people: OidcAuthenticator, issuer: Issuer, key: str, algorithm: str
) -> None:
    found = await people.authenticate(issuer.token(key, algorithm))

    assert found.name == "user:ana"
    assert found.may(Right.WRITE_CONFIGS, "staging", "shop")
    assert found.may(Right.REVEAL, "staging", "shop")
    assert not found.may(Right.REVEAL, "eu-1", "shop")
    assert found.may(Right.WRITE_CONFIGS, "eu-1", "shop")
    assert not found.may(Right.READ_CONFIGS, "staging", "bank")


async def test_who_has_no_role_may_do_nothing(people: OidcAuthenticator, issuer: Issuer) -> None:
    found = await people.authenticate(issuer.token(groups=["strangers"]))

    assert not any(found.may(right, "staging", "shop") for right in Right)


async def test_name_and_roles_come_from_the_claims_of_the_settings(
    issuer: Issuer, keys: IssuerKeys
) -> None:
    people = people_of(issuer, keys, name_claim="email", roles_claim="realm.roles")

    found = await people.authenticate(issuer.token(email="ana@x.org", realm={"roles": "everybody"}))

    assert found.name == "user:ana@x.org"
    assert found.may(Right.READ_CONFIGS, "production", "bank")


def _base64_json(part: Any) -> bytes:
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=")


def _unsigned_token(issuer: Issuer, algorithm: str) -> str:
    header = {"alg": algorithm, "kid": "rsa"}
    return (_base64_json(header) + b"." + _base64_json(issuer.claims()) + b".").decode()


def _token_signed_with_public_key(issuer: Issuer) -> str:
    """Sign with the public key as if it were a shared secret."""
    key = issuer.keys["rsa"]
    assert isinstance(key, RSAKey)
    secret = key.as_pem(private=False)
    body = _base64_json({"alg": "HS256", "kid": "rsa"}) + b"." + _base64_json(issuer.claims())
    return (body + b"." + _base64_json(hmac.digest(secret, body, hashlib.sha256))).decode()


def _with_key_inside(issuer: Issuer) -> str:
    own = RSAKey.generate_key(2048, {"kid": "own"})
    header = {"alg": "RS256", "kid": "own", "jwk": own.as_dict(private=False)}
    return issuer.sign_token(header, issuer.claims(), own)


def _other_key(issuer: Issuer, kid: Any) -> str:
    own = RSAKey.generate_key(2048)
    header = {"alg": "RS256"} if kid is None else {"alg": "RS256", "kid": kid}
    body = _base64_json(header) + b"." + _base64_json(issuer.claims())
    signed = issuer.sign_token({"alg": "RS256"}, issuer.claims(), own).rpartition(".")[2]
    return (body + b"." + signed.encode()).decode()


def _token_with_other_claims(issuer: Issuer) -> str:
    header, _, signature = issuer.token().split(".")
    return f"{header}.{_base64_json(issuer.claims(groups=['everybody'])).decode()}.{signature}"


def _critical(issuer: Issuer) -> str:
    header = {"alg": "RS256", "kid": "rsa", "crit": ["ghost"], "ghost": 1}
    body = _base64_json(header) + b"." + _base64_json(issuer.claims())
    return (body + b".AAAA").decode()


def _saying(issuer: Issuer, text: bytes) -> str:
    return jws.serialize_compact({"alg": "RS256", "kid": "rsa"}, text, issuer.keys["rsa"])


def _token_of_type(issuer: Issuer, media_type: str, **claims: Any) -> str:
    header = {"alg": "RS256", "kid": "rsa", "typ": media_type}
    return issuer.sign_token(header, issuer.claims(**claims), issuer.keys["rsa"])


_LOGOUT: dict[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}


def _late(seconds: int) -> int:
    return int(time.time()) + seconds


REFUSED: dict[str, Forge] = {
    "no signature": lambda issuer: _unsigned_token(issuer, "none"),
    "no signature, in capitals": lambda issuer: _unsigned_token(issuer, "NONE"),
    "an empty signature": lambda issuer: _unsigned_token(issuer, "RS256"),
    "a public key as a secret": _token_signed_with_public_key,
    "a key that it brings along": _with_key_inside,
    "a key of somebody else": lambda issuer: _other_key(issuer, "rsa"),
    "no key id and a key of somebody else": lambda issuer: _other_key(issuer, None),
    "a key id that is a path": lambda issuer: _other_key(issuer, "../../../dev/null"),
    "a key id that is an address": lambda issuer: _other_key(issuer, "http://127.0.0.1/key"),
    "a key id that is a list": lambda issuer: _other_key(issuer, ["rsa"]),
    "a key id that is a query": lambda issuer: _other_key(issuer, "' OR 1=1 --"),
    "a shared secret": lambda issuer: issuer.sign_token(
        {"alg": "HS256"}, issuer.claims(), OctKey.generate_key(256)
    ),
    "other claims under the signature": _token_with_other_claims,
    "expired": lambda issuer: issuer.token(exp=_late(-60)),
    "no end": lambda issuer: issuer.token(exp=None),
    "an end that is a text": lambda issuer: issuer.token(exp="tomorrow"),
    "an end that is true": lambda issuer: issuer.token(exp=True),
    "an end beyond any float": lambda issuer: issuer.token(exp=10**400),
    "a beginning beyond any float": lambda issuer: issuer.token(nbf=10**400),
    "claims that never end": lambda issuer: _saying(issuer, b"[" * 5000),
    "claims that are a list": lambda issuer: _saying(issuer, b"[1]"),
    "not yet": lambda issuer: issuer.token(nbf=_late(60)),
    "issued tomorrow": lambda issuer: issuer.token(iat=_late(86_400)),
    "another audience": lambda issuer: issuer.token(aud="bank"),
    "several other audiences": lambda issuer: issuer.token(aud=["bank", "pilothouse2"]),
    "no audience": lambda issuer: issuer.token(aud=None),
    "another issuer": lambda issuer: issuer.token(iss=issuer.url + "/"),
    "no issuer": lambda issuer: issuer.token(iss=None),
    "no subject": lambda issuer: issuer.token(sub=None),
    "a subject that is a number": lambda issuer: issuer.token(sub=7),
    "a subject with a line in it": lambda issuer: issuer.token(sub="ana\nadmin"),
    "a subject of a page": lambda issuer: issuer.token(sub="a" * 200),
    "too long": lambda issuer: issuer.token(padding="a" * 9000),
    "two parts": lambda issuer: issuer.token().rpartition(".")[0],
    "four parts": lambda issuer: issuer.token() + ".a",
    "no base64": lambda _: "é.ü.ä",
    "no JSON": lambda _: ".".join(_base64_json(b"{").decode() for _ in range(3)),
    "a critical extension": _critical,
    "a logout token": lambda issuer: issuer.token(events=_LOGOUT),
    "a logout token without an event": lambda issuer: issuer.token(events={}),
    "a logout token by its header": lambda issuer: _token_of_type(issuer, "logout+jwt"),
    "a security event by its header": lambda issuer: _token_of_type(
        issuer, "application/secevent+jwt"
    ),
    "a proof of possession": lambda issuer: _token_of_type(issuer, "dpop+jwt"),
    "an ID token with the hash of an access token": lambda issuer: issuer.token(at_hash="x"),
    "an ID token with the hash of a code": lambda issuer: issuer.token(c_hash="x"),
    "an ID token of Keycloak": lambda issuer: issuer.token(typ="ID"),
    "a refresh token of Keycloak": lambda issuer: issuer.token(typ="Refresh"),
    "an offline token of Keycloak": lambda issuer: issuer.token(typ="Offline"),
    "a logout token of Keycloak": lambda issuer: issuer.token(typ="Logout"),
    "an ID token of Cognito": lambda issuer: issuer.token(token_use="id"),
    "a kind that is a list": lambda issuer: issuer.token(typ=["Bearer"]),
    "nothing": lambda _: "",
    "points": lambda _: "..",
}


@pytest.mark.parametrize("name", REFUSED)
async def test_nothing_else_is_let_in(people: OidcAuthenticator, issuer: Issuer, name: str) -> None:
    with pytest.raises(TokenRefused):
        await people.authenticate(REFUSED[name](issuer))


ACCESS_TOKENS: dict[str, Forge] = {
    "RFC 9068": lambda issuer: _token_of_type(issuer, "at+jwt", client_id="console"),
    "RFC 9068, in full": lambda issuer: _token_of_type(issuer, "application/AT+JWT"),
    "no type": lambda issuer: issuer.token(),
    "JWT": lambda issuer: _token_of_type(issuer, "JWT"),
    "Keycloak": lambda issuer: _token_of_type(issuer, "JWT", typ="Bearer", azp="console"),
    "Cognito": lambda issuer: issuer.token(token_use="access"),
}


@pytest.mark.parametrize("name", ACCESS_TOKENS)
async def test_an_access_token_is_accepted_however_its_issuer_marks_it(
    people: OidcAuthenticator, issuer: Issuer, name: str
) -> None:
    assert (await people.authenticate(ACCESS_TOKENS[name](issuer))).name == "user:ana"


@pytest.mark.parametrize(
    "claims",
    [
        {"azp": "console"},
        {"azp": "cli", "client_id": "stranger"},
        {"client_id": "console"},
    ],
)
async def test_a_token_of_a_client_of_the_settings_is_accepted(
    issuer: Issuer, keys: IssuerKeys, claims: dict[str, str]
) -> None:
    people = replace(people_of(issuer, keys), clients=frozenset({"console", "cli"}))

    assert (await people.authenticate(issuer.token(**claims))).name == "user:ana"


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"azp": "stranger"},
        {"azp": "stranger", "client_id": "console"},
        {"azp": ["console"]},
        {"azp": ""},
        {"client_id": "stranger"},
    ],
)
async def test_a_token_of_another_client_is_refused(
    issuer: Issuer, keys: IssuerKeys, claims: dict[str, Any]
) -> None:
    people = replace(people_of(issuer, keys), clients=frozenset({"console", "cli"}))

    with pytest.raises(TokenRefused):
        await people.authenticate(issuer.token(**claims))


async def test_a_clock_that_is_a_little_off_is_forgiven(
    people: OidcAuthenticator, issuer: Issuer
) -> None:
    assert await people.authenticate(issuer.token(exp=_late(-5), nbf=_late(5), iat=_late(5)))


async def test_a_token_that_names_no_key_is_tried_with_each(
    people: OidcAuthenticator, issuer: Issuer
) -> None:
    token = issuer.sign_token({"alg": "ES256"}, issuer.claims(), issuer.keys["ec"])

    assert (await people.authenticate(token)).name == "user:ana"


@pytest.mark.slow
async def test_made_up_key_ids_do_not_make_it_ask_the_issuer_each_time(
    people: OidcAuthenticator, issuer: Issuer
) -> None:
    await people.authenticate(issuer.token())
    before = issuer.reads

    for number in range(20):
        with pytest.raises(TokenRefused):
            await people.authenticate(_other_key(issuer, f"ghost-{number}"))

    assert issuer.reads == before


async def test_who_was_let_in_once_is_let_in_while_the_issuer_is_unavailable(
    people: OidcAuthenticator, issuer: Issuer
) -> None:
    await people.authenticate(issuer.token())

    issuer.is_there = False
    try:
        assert await people.authenticate(issuer.token("ec", "ES256"))
    finally:
        issuer.is_there = True


async def test_before_it_was_reached_nobody_can_tell(
    people: OidcAuthenticator, issuer: Issuer
) -> None:
    issuer.is_there = False
    try:
        with pytest.raises(IssuerUnavailable):
            await people.authenticate(issuer.token())
    finally:
        issuer.is_there = True

    assert await people.authenticate(issuer.token())


NO_KEYS = {
    "a number": b"5",
    "no member": b"{}",
    "nothing": b'{"keys": null}',
    "keys by name": b'{"keys": {"rsa": 1}}',
    "a text": b'{"keys": "rsa"}',
    "lists without end": b"[" * 100_000,
    "no UTF-8": b"\xff\xfe",
    "too much": b" " * 300_000 + b"{}",
}


@pytest.mark.parametrize("what", NO_KEYS)
@pytest.mark.parametrize("kid", ["rsa", None])
async def test_whoever_answers_with_no_keys_is_as_good_as_unavailable(
    people: OidcAuthenticator, issuer: Issuer, what: str, kid: str | None
) -> None:
    issuer.instead = NO_KEYS[what]
    try:
        with pytest.raises(IssuerUnavailable):
            await people.authenticate(_other_key(issuer, kid))
    finally:
        issuer.instead = None

    assert await people.authenticate(issuer.token())
