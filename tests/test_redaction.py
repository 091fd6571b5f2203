"""What of a log line is a credential."""

import json

import pytest

from app.redaction import REDACTED, Redactor

SECRET = "t0p-S3cret_Va1ue"
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
OURS = "plh_client_0123456789abcdef_" + "x" * 43 + "_AAAAAA"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"authorization: bearer {SECRET}, X-Other: a",
        f"Authorization: Basic {SECRET}==",
        f"authorization: {SECRET}",
        f"> X-Vault-Token: {SECRET}",
        f"x-api-key={SECRET}",
        f"{{'Authorization': 'Bearer {SECRET}'}}",
        f"[(b'authorization', b'Bearer {SECRET}'), (b'host', b'a')]",
        f"[(b'x-api-key', b'{SECRET}')]",
        json.dumps(json.dumps({"X-API-Key": SECRET})),
        json.dumps({"headers": f"X-Vault-Token: {SECRET}"}),
        f"the token is Bearer {SECRET}",
        f"postgresql://pilothouse:{SECRET}@db.example/pilothouse",
        f"postgresql+asyncpg://pilothouse:{SECRET}:a/b@db.example:5432/pilothouse",
        f"postgresql://u:p@{SECRET}@db.example/a",
        f"redis://:{SECRET}@cache:6379/0",
        f"GET /api/v1/stream?ticket={SECRET}&environment=a",
        f"GET /?access_token={SECRET} HTTP/1.1",
        f"connect(host='a', password='{SECRET}')",
        f"password={SECRET} host=a",
        f'{{"password": "{SECRET}", "user": "a"}}',
        f'{{"secret_id": "{SECRET}"}}',
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----",
        f"Cookie: session={SECRET}",
        f"hvs.{'x' * 24}{SECRET}",
    ],
)
def test_a_credential_is_left_out(text: str) -> None:
    redacted = Redactor().redact(text)

    assert SECRET not in redacted
    assert REDACTED in redacted


@pytest.mark.parametrize("text", [JWT, OURS, "hvs." + "A1" * 12, "s." + "A1" * 12])
def test_a_token_is_known_by_its_form(text: str) -> None:
    redacted = Redactor().redact(f"refused {text} at once")

    assert text not in redacted
    assert redacted.endswith(f"{REDACTED} at once")


@pytest.mark.parametrize(
    "secret",
    ["a-secret-of-32-characters-or-more", 'with "quotes" and \\ in it', "ümlaut-ümlaut-ümlaut"],
)
def test_a_secret_that_is_known_is_left_out_wherever_it_stands(secret: str) -> None:
    redactor = Redactor([secret])

    for line in (secret, f"x{secret}x", json.dumps({"a": secret}), repr(secret)):
        assert REDACTED in redactor.redact(line)
        assert secret not in redactor.redact(line)


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "started", "mode": "development", "access": "required"}',
        "Started server process [7]",
        "PILOTHOUSE_ADMIN_TOKEN repeats itself: it could be guessed",
        "VAULT_ADDR needs VAULT_TOKEN, or VAULT_ROLE_ID with VAULT_SECRET_ID",
        "http://127.0.0.1:8082/api/v1/config/a@b",
        "https://vault.example:8200",
        "token_id=0123456789abcdef",
        '{"task": "expire_tokens", "reason": "Postgres cannot be reached"}',
        "`Authorization` and `X-API-Key` state two different tokens",
        '  File "/app/access/tokens.py", line 7, in find_token',
    ],
)
def test_all_else_stays(line: str) -> None:
    assert Redactor(["root", "pilothouse"]).redact(line) == line
