"""What Vault, and what stands between it and us, does to the adapters; and what they make of it."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import hvac
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.configs.errors import (
    DocumentTooLarge,
    SecretUnreadable,
    StoreUnavailable,
    VersionMissing,
    VersionTaken,
    VersionUnreadable,
    WriteUnanswered,
)
from app.configs.model import DocumentId, document_id
from app.configs.store.port import Head
from app.configs.store.vault import KvVersionRefused, VaultCipher, VaultConfigStore
from app.configs.store.vault_api import API, VaultRequest
from app.configs.store.vault_client import CALL_SECONDS, AppRoleLogin, TokenLogin, VaultClient
from tests.servers.answer import Answer, request
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.process import SLACK_SECONDS, freeze_server, patiently, reserve_port, wait_until
from tests.servers.proxy import LossyProxy, http_answer
from tests.servers.vault import VaultServer

POLICY = Path(__file__).parents[2] / "docs" / "policies" / "pilothouse.hcl"
CHECKOUT = document_id("staging", "checkout")
DEADLINE_SECONDS = 1.0 + SLACK_SECONDS
MAX_VERSIONS = 20
LOGINS = 100
PAGE = b"<html><h1>It is not you, it is us</h1></html>"


@dataclass
class Bench:
    """A Vault, a wire to it that can be disturbed, and a corner of it nobody else uses."""

    server: VaultServer
    prefix: str
    proxy: LossyProxy
    stack: AsyncExitStack

    @property
    def root(self) -> TokenLogin:
        return TokenLogin(self.server.root_token)

    def client(
        self, login: TokenLogin | AppRoleLogin, seconds: float = PATIENT_SECONDS
    ) -> VaultClient:
        client = VaultClient(f"http://127.0.0.1:{self.proxy.port}", login, seconds=seconds)
        self.stack.push_async_callback(client.close)
        return client

    def store(self, client: VaultClient, mount: str = "secret") -> VaultConfigStore:
        return VaultConfigStore(client, mount=mount, prefix=self.prefix, max_versions=MAX_VERSIONS)

    def cipher(self, client: VaultClient) -> VaultCipher:
        return VaultCipher(client, mount="transit", prefix=self.prefix)

    def api(self, method: str, kind: str, body: Any = None) -> Any:
        """Do something to the document of `checkout` behind our back."""
        path = f"secret/{kind}/{self.prefix}/{CHECKOUT.path}"
        status, answer = self.server.api(method, path, body)
        assert status < 300, answer
        return answer and answer["data"]


@dataclass
class Role:
    """An AppRole that may do what our policy grants. Vault itself counts its logins."""

    server: VaultServer
    name: str
    login: AppRoleLogin

    def logins(self) -> int:
        path = f"auth/approle/role/{self.name}/secret-id/lookup"
        _, answer = self.server.api("POST", path, {"secret_id": self.login.secret_id})
        return LOGINS - int(answer["data"]["secret_id_num_uses"])

    def tokens(self) -> list[dict[str, Any]]:
        _, answer = self.server.api("GET", "auth/token/accessors?list=true")
        found = (self._token(accessor) for accessor in answer["data"]["keys"])
        return [token for token in found if (token["meta"] or {}).get("role_name") == self.name]

    def _token(self, accessor: str) -> dict[str, Any]:
        _, answer = self.server.api("POST", "auth/token/lookup-accessor", {"accessor": accessor})
        token: dict[str, Any] = (answer or {}).get("data") or {"meta": None}
        return token

    def revoke(self) -> None:
        for token in self.tokens():
            body = {"accessor": token["accessor"]}
            self.server.api("POST", "auth/token/revoke-accessor", body)

    def was_renewed(self) -> bool:
        return any("last_renewal_time" in token for token in self.tokens())


@pytest.fixture
async def bench(vault_server: VaultServer) -> AsyncIterator[Bench]:
    parts = urlsplit(vault_server.address)
    with LossyProxy(parts.hostname or "", parts.port or 0) as proxy:
        async with AsyncExitStack() as stack:
            yield Bench(vault_server, vault_server.fresh_prefix(), proxy, stack)


@pytest.fixture
async def store(bench: Bench) -> VaultConfigStore:
    """Give a store that was used already, so that the next request is the one asked for."""
    store = bench.store(bench.client(bench.root))
    await store.write(CHECKOUT, "one", base=0)
    return store


@pytest.fixture
async def prompt(bench: Bench, store: VaultConfigStore) -> VaultConfigStore:
    """Give the same, that waits for Vault no longer than in production."""
    prompt = bench.store(bench.client(bench.root, CALL_SECONDS))
    await patiently(lambda: prompt.read(CHECKOUT, 1), StoreUnavailable)
    return prompt


def our_policy(prefix: str) -> str:
    """Read the policy we publish, for another prefix than it was written for."""
    return re.sub(r"(?<=/)pilothouse(?=[/-])", prefix, POLICY.read_text())


def made_role(
    bench: Bench, settings: Mapping[str, object] | None = None, *, policy: str | None = None
) -> Role:
    name, api = bench.prefix, bench.server.api
    rules = our_policy(bench.prefix) if policy is None else policy
    role = {
        "token_policies": [name],
        "token_no_default_policy": True,
        "secret_id_num_uses": LOGINS,
        **(settings or {}),
    }
    for path, body in (
        (f"sys/policies/acl/{name}", {"policy": rules}),
        (f"auth/approle/role/{name}", role),
    ):
        status, answer = api("POST", path, body)
        assert status == 204, answer
    _, role_id = api("GET", f"auth/approle/role/{name}/role-id")
    _, secret_id = api("POST", f"auth/approle/role/{name}/secret-id")
    login = AppRoleLogin(role_id["data"]["role_id"], secret_id["data"]["secret_id"])
    return Role(bench.server, name, login)


@pytest.fixture
def role(bench: Bench) -> Role:
    return made_role(bench)


def case_name(answer: bytes) -> str:
    """Name a case by its status and how its body begins."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1]
    return f"{status.decode()} {body[:24].decode()}".strip()


def is_write(sent: bytes) -> bool:
    return sent.startswith(b"POST") and b"/data/" in sent.partition(b"\r\n")[0]


def is_login(sent: bytes) -> bool:
    return b"/auth/approle/login" in sent.partition(b"\r\n")[0]


def is_read(sent: bytes) -> bool:
    return sent.startswith(b"GET")


@contextmanager
def sealed_vault(server: VaultServer) -> Iterator[None]:
    server.seal()
    try:
        yield
    finally:  # a failed test must not leave the next one a sealed Vault
        server.unseal()


# A server that is no Vault


@dataclass
class Script:
    status: int = 200
    body: bytes = b'{"data": {"ttl": 0}}'
    headers: dict[str, str] = field(default_factory=dict)


class Stranger(ThreadingHTTPServer):
    """Answers every request alike, and remembers it."""

    daemon_threads = True

    def __init__(self, script: Script, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Ear)
        self.script = script
        self.seen: list[tuple[str, dict[str, str]]] = []
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)


class Ear(BaseHTTPRequestHandler):
    server: Stranger

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.path, headers))
        script = self.server.script
        self.send_response(script.status)
        for name, value in script.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(script.body)))
        self.end_headers()
        self.wfile.write(script.body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def stranger(script: Script | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Stranger]:
    with Stranger(script or Script(), tls) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def asking(stack: AsyncExitStack, address: str, **settings: str) -> VaultClient:
    client = VaultClient(
        address,
        TokenLogin("the token"),
        namespace=settings.get("namespace"),
        ca_file=settings.get("ca_file"),
    )
    stack.push_async_callback(client.close)
    return client


# Logging in


async def test_the_first_request_logs_in_and_the_next_ones_use_its_token(
    bench: Bench, role: Role
) -> None:
    store = bench.store(bench.client(role.login))
    before = role.logins()

    await store.write(CHECKOUT, "one", base=0)
    await store.ping()

    assert (before, role.logins()) == (0, 1)


async def test_requests_at_once_share_one_login(bench: Bench, role: Role) -> None:
    store = bench.store(bench.client(role.login))

    await asyncio.gather(*(store.head(CHECKOUT) for _ in range(20)))

    assert role.logins() == 1


async def test_after_its_token_was_revoked_a_request_logs_in_and_succeeds(
    bench: Bench, role: Role
) -> None:
    store = bench.store(bench.client(role.login))
    await store.write(CHECKOUT, "one", base=0)
    role.revoke()

    await store.write(CHECKOUT, "two", base=1)

    assert role.logins() == 2
    assert await store.read(CHECKOUT, 2) == "two"


async def test_after_the_token_was_revoked_requests_at_once_share_one_login(
    bench: Bench, role: Role
) -> None:
    store = bench.store(bench.client(role.login))
    await store.write(CHECKOUT, "one", base=0)
    role.revoke()

    found = await asyncio.gather(*(store.read(CHECKOUT, 1) for _ in range(20)))

    assert set(found) == {"one"}
    assert role.logins() == 2


async def test_what_the_policy_refuses_starts_no_storm_of_logins(bench: Bench) -> None:
    role = made_role(bench, policy=our_policy(bench.prefix).replace("/data/", "/elsewhere/"))
    store = bench.store(bench.client(role.login))

    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            await store.read(CHECKOUT, 1)
        with pytest.raises(StoreUnavailable):
            await store.write(CHECKOUT, "one", base=0)

    assert role.logins() == 1


async def test_a_given_token_that_was_revoked_is_refused_as_it_is(bench: Bench) -> None:
    _, made = bench.server.api("POST", "auth/token/create", {"policies": ["root"]})
    store = bench.store(bench.client(TokenLogin(made["auth"]["client_token"])))
    await store.ping()
    bench.server.api("POST", "auth/token/revoke", {"token": made["auth"]["client_token"]})

    for ask in (store.ping(), store.read(CHECKOUT, 1), store.write(CHECKOUT, "one", base=0)):
        with pytest.raises(StoreUnavailable):
            await ask


async def test_a_refused_login_leaves_the_store_unavailable(bench: Bench, role: Role) -> None:
    store = bench.store(bench.client(AppRoleLogin(role.login.role_id, "not the secret id")))

    with pytest.raises(StoreUnavailable, match="refuses the AppRole login"):
        await store.write(CHECKOUT, "one", base=0)


@pytest.mark.parametrize(
    "answer", [http_answer("502 Bad Gateway", PAGE), http_answer("200 OK")], ids=case_name
)
async def test_a_write_whose_login_was_not_answered_was_not_sent(
    bench: Bench, role: Role, answer: bytes
) -> None:
    store = bench.store(bench.client(role.login))
    await store.write(CHECKOUT, "one", base=0)
    role.revoke()
    bench.proxy.answer_next(answer, when=is_login)

    with pytest.raises(StoreUnavailable):
        await store.write(CHECKOUT, "two", base=1)

    assert await store.head(CHECKOUT) == Head(1, readable=True)


async def test_requests_do_not_queue_for_a_login_that_is_not_answered(
    bench: Bench, role: Role
) -> None:
    store = bench.store(bench.client(role.login, CALL_SECONDS))
    bench.proxy.hold()

    async with asyncio.timeout(DEADLINE_SECONDS):
        outcomes = await asyncio.gather(
            *(store.read(CHECKOUT, 1) for _ in range(20)), return_exceptions=True
        )

    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    bench.proxy.heal()
    await store.ping()


def test_credentials_do_not_show() -> None:
    assert "hush" not in repr([TokenLogin("hush"), AppRoleLogin("role", "hush")])


# Keeping the token


@asynccontextmanager
async def renewing_token(client: VaultClient) -> AsyncIterator[None]:
    task = asyncio.create_task(client.keep_token())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(wait_until, holds, what)


async def test_a_token_is_renewed_before_it_expires(bench: Bench) -> None:
    role = made_role(bench, {"token_ttl": "2s", "token_max_ttl": "1h"})
    client = bench.client(role.login)

    async with renewing_token(client):
        await until(role.was_renewed, "the token is renewed")

    assert role.logins() == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"token_ttl": "2s", "token_max_ttl": "2s"},
        {"token_ttl": "2s", "token_type": "batch"},
    ],
    ids=["at the end of its life", "not renewable"],
)
async def test_a_token_that_cannot_live_on_is_replaced_before_it_expires(
    bench: Bench, settings: dict[str, object]
) -> None:
    role = made_role(bench, settings)
    client = bench.client(role.login)

    async with renewing_token(client):
        await until(lambda: role.logins() == 2, "the next token is there")
        await bench.store(client).ping()


async def test_a_lost_answer_to_a_renewal_is_an_outage_like_any_other(bench: Bench) -> None:
    role = made_role(bench, {"token_ttl": "1s", "token_max_ttl": "1h"})
    bench.proxy.drop_next_response(when=lambda sent: b"renew-self" in sent)

    with pytest.raises(StoreUnavailable):
        await bench.client(role.login).keep_token()


# What every request carries, and where it goes


async def test_the_namespace_goes_with_every_request(stack: AsyncExitStack) -> None:
    with stranger(Script(body=b'{"data": {}, "auth": {"client_token": "fresh"}}')) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        client = VaultClient(address, AppRoleLogin("role", "secret id"), namespace="ships/argo")
        stack.push_async_callback(client.close)
        await client.read("ping", API.tokens.lookup_self())

        seen = [(path, headers.get("x-vault-namespace")) for path, headers in server.seen]

    assert seen == [
        ("/v1/auth/approle/login", "ships/argo"),
        ("/v1/auth/token/lookup-self", "ships/argo"),
    ]


async def test_without_a_namespace_no_header_names_one(stack: AsyncExitStack) -> None:
    with stranger() as server:
        client = asking(stack, f"http://127.0.0.1:{server.server_port}/")
        await client.read("ping", API.tokens.lookup_self())

        ((path, headers),) = server.seen

    assert path == "/v1/auth/token/lookup-self"
    assert headers["x-vault-token"] == "the token"
    assert headers["x-vault-request"] == "true"
    assert "x-vault-namespace" not in headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed_and_no_token_forwarded(
    stack: AsyncExitStack, status: int
) -> None:
    with stranger() as canary:
        elsewhere = f"http://localhost:{canary.server_port}/v1/auth/token/lookup-self"
        with stranger(Script(status, PAGE, {"Location": elsewhere})) as server:
            client = asking(stack, f"http://127.0.0.1:{server.server_port}")
            for ask in (
                client.read("ping", API.tokens.lookup_self()),
                client.call("write", VaultRequest("POST", "secret/data/x", {})),
            ):
                with pytest.raises(StoreUnavailable):
                    await ask

    assert canary.seen == []
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    "name",
    ["..", ".", "", "a/../b", "a/./b", "a//b", "%2e%2e", "a%2fb", "a b", "a?b", "a#b", "ü", "a\\b"],
)
async def test_a_path_that_anybody_might_normalise_is_not_sent(
    stack: AsyncExitStack, name: str
) -> None:
    with stranger() as server:
        client = asking(stack, f"http://127.0.0.1:{server.server_port}")
        path = f"secret/data/ships/{name}/checkout"

        with pytest.raises(StoreUnavailable, match="another path"):
            await client.read("read", VaultRequest("GET", f"{path}?version=1"))
        with pytest.raises(StoreUnavailable, match="another path"):
            await client.call("write", VaultRequest("POST", path, {}))

    assert server.seen == []


async def test_a_document_never_leads_out_of_its_folder(
    bench: Bench, store: VaultConfigStore
) -> None:
    outside = DocumentId("staging", "checkout", f"../../../{CHECKOUT.path}")

    for ask in (store.read(outside, 1), store.head(outside), store.write(outside, "x", base=1)):
        with pytest.raises(StoreUnavailable, match="another path"):
            await ask

    assert bench.api("GET", "metadata")["current_version"] == 1


async def test_an_address_may_name_the_port_that_goes_without_saying(
    stack: AsyncExitStack,
) -> None:
    client = asking(stack, "http://127.0.0.77:80")

    with pytest.raises(StoreUnavailable, match=r"cannot be reached|answered"):
        await client.read("ping", API.tokens.lookup_self())


# TLS


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Make a certificate for 127.0.0.1 that vouches for itself."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a Vault for tests")])
    loopback = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(loopback, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    ca_file, key_file = folder / "ca.pem", folder / "key.pem"
    ca_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(ca_file, key_file)
    return ca_file, tls


async def test_a_certificate_of_the_given_authority_is_trusted(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    ca_file, tls = certificate(tmp_path)
    with stranger(tls=tls) as server:
        client = asking(stack, f"https://127.0.0.1:{server.server_port}", ca_file=str(ca_file))

        assert (await client.read("ping", API.tokens.lookup_self())).status == 200
        await client.close()


async def test_a_certificate_nobody_vouches_for_gets_no_token(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    _, tls = certificate(tmp_path)
    with stranger(tls=tls) as server:
        client = asking(stack, f"https://127.0.0.1:{server.server_port}")

        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await client.read("ping", API.tokens.lookup_self())
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await client.call("write", VaultRequest("POST", "secret/data/x", {}))

    assert server.seen == []


async def test_a_certificate_for_another_name_gets_no_token(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    ca_file, tls = certificate(tmp_path)
    with stranger(tls=tls) as server:
        client = asking(stack, f"https://localhost:{server.server_port}", ca_file=str(ca_file))

        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await client.read("ping", API.tokens.lookup_self())

    assert server.seen == []


# Refusals and outages


async def test_a_limit_of_the_rate_tells_when_to_come_back(
    bench: Bench, store: VaultConfigStore
) -> None:
    answer = http_answer("429 Too Many Requests", b'{"errors": ["slow down"]}', Retry_After="7")
    bench.proxy.answer_next(answer, times=2)

    for ask in (store.read(CHECKOUT, 1), store.write(CHECKOUT, "two", base=1)):
        with pytest.raises(StoreUnavailable) as refused:
            await ask
        assert refused.value.retry_after == 7


@pytest.mark.parametrize("when", ["", "soon", "Fri, 31 Dec 1999 23:59:59 GMT", "\xb2"])
async def test_a_limit_of_the_rate_without_a_number_means_a_second(
    bench: Bench, store: VaultConfigStore, when: str
) -> None:
    bench.proxy.answer_next(http_answer("429 Too Many Requests", b"{}", Retry_After=when))

    with pytest.raises(StoreUnavailable) as refused:
        await store.write(CHECKOUT, "two", base=1)

    assert refused.value.retry_after == 1


async def test_a_sealed_vault_refuses_at_once_and_serves_once_unsealed(
    bench: Bench, store: VaultConfigStore
) -> None:
    asks: tuple[Callable[[], Awaitable[object]], ...] = (
        store.ping,
        partial(store.read, CHECKOUT, 1),
        partial(store.head, CHECKOUT),
        store.documents,
        partial(store.write, CHECKOUT, "two", base=1),
        partial(store.write, document_id("staging", "cart"), "one", base=0),
        partial(bench.cipher(bench.client(bench.root)).seal, "staging", [("", "word")]),
    )
    with sealed_vault(bench.server):
        async with asyncio.timeout(DEADLINE_SECONDS):
            for ask in asks:
                with pytest.raises(StoreUnavailable):
                    await ask()

    assert await store.read(CHECKOUT, 1) == "one"
    assert await store.head(CHECKOUT) == Head(1, readable=True)


async def test_a_sealed_vault_is_not_taken_for_a_revoked_token(bench: Bench, role: Role) -> None:
    store = bench.store(bench.client(role.login))
    await store.ping()

    with sealed_vault(bench.server), pytest.raises(StoreUnavailable):
        await store.ping()
    await store.ping()

    assert role.logins() == 1


async def test_a_frozen_vault_keeps_nobody_waiting(bench: Bench, prompt: VaultConfigStore) -> None:
    asks = (prompt.read(CHECKOUT, 1), prompt.head(CHECKOUT), prompt.documents(), prompt.ping())
    fresh = bench.store(bench.client(bench.root, CALL_SECONDS))
    with freeze_server(bench.server):
        async with asyncio.timeout(DEADLINE_SECONDS):
            outcomes = await asyncio.gather(
                *asks,
                fresh.read(CHECKOUT, 1),
                fresh.write(CHECKOUT, "one", base=0),
                prompt.write(document_id("staging", "cart"), "one", base=0),
                return_exceptions=True,
            )

    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}


async def test_what_a_frozen_vault_was_sent_may_still_be_written(
    bench: Bench, prompt: VaultConfigStore
) -> None:
    with freeze_server(bench.server):
        async with asyncio.timeout(DEADLINE_SECONDS):
            with pytest.raises(WriteUnanswered):
                await prompt.write(CHECKOUT, "two", base=1)


async def test_a_port_where_nobody_listens_was_sent_nothing(stack: AsyncExitStack) -> None:
    with reserve_port() as holder:
        client = asking(stack, f"http://127.0.0.1:{holder.getsockname()[1]}")

        for ask in (
            client.read("ping", API.tokens.lookup_self()),
            client.call("write", VaultRequest("POST", "secret/data/x", {})),
            client.ask("encrypt", VaultRequest("POST", "transit/encrypt/x", {})),
        ):
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await ask


async def test_a_store_serves_again_as_soon_as_its_wire_is_mended(
    bench: Bench, store: VaultConfigStore
) -> None:
    bench.proxy.refuse()
    bench.proxy.cut()
    with pytest.raises(StoreUnavailable):
        await store.read(CHECKOUT, 1)

    bench.proxy.heal()

    assert await store.read(CHECKOUT, 1) == "one"


# Answers that were lost, and answers nobody can rely on


@pytest.mark.parametrize("hang", [False, True], ids=["cut", "hanging"])
async def test_a_write_whose_answer_was_lost_is_unanswered_and_done(
    bench: Bench, store: VaultConfigStore, prompt: VaultConfigStore, *, hang: bool
) -> None:
    bench.proxy.drop_next_response(hang=hang, when=is_write)

    async with asyncio.timeout(DEADLINE_SECONDS):
        with pytest.raises(WriteUnanswered):
            await prompt.write(CHECKOUT, "two", base=1)

    assert await store.read(CHECKOUT, 2) == "two"


async def test_a_read_whose_answer_was_cut_off_is_asked_again(
    bench: Bench, store: VaultConfigStore
) -> None:
    bench.proxy.drop_next_response(when=is_read)

    assert await store.read(CHECKOUT, 1) == "one"
    assert bench.proxy.dropped == 1


async def test_a_read_that_hangs_is_not_asked_again(bench: Bench, prompt: VaultConfigStore) -> None:
    bench.proxy.drop_next_response(hang=True, when=is_read)

    async with asyncio.timeout(DEADLINE_SECONDS):
        with pytest.raises(StoreUnavailable):
            await prompt.read(CHECKOUT, 1)


UNRELIABLE = [
    http_answer("500 Internal Server Error", b'{"errors": ["it broke"]}'),
    http_answer("502 Bad Gateway", PAGE),
    http_answer("503 Service Unavailable", PAGE),
    http_answer("503 Service Unavailable"),
    http_answer("504 Gateway Timeout", PAGE),
    http_answer("200 OK", PAGE),
    http_answer("200 OK", b"[]"),
    http_answer("200 OK"),
]


@pytest.mark.parametrize("answer", UNRELIABLE, ids=case_name)
async def test_a_write_answered_by_something_in_between_is_unanswered(
    bench: Bench, store: VaultConfigStore, answer: bytes
) -> None:
    bench.proxy.answer_next(answer, when=is_write)

    with pytest.raises(WriteUnanswered):
        await store.write(CHECKOUT, "two", base=1)


@pytest.mark.parametrize(
    "answer",
    [*UNRELIABLE, http_answer("404 Not Found", PAGE), http_answer("200 OK", b'{"status": "up"}')],
    ids=case_name,
)
async def test_a_read_answered_by_something_in_between_finds_out_nothing(
    bench: Bench, store: VaultConfigStore, answer: bytes
) -> None:
    asks: tuple[Callable[[], Awaitable[object]], ...] = (
        partial(store.read, CHECKOUT, 1),
        partial(store.head, CHECKOUT),
        store.documents,
    )
    for ask in asks:
        bench.proxy.answer_next(answer, times=2)
        with pytest.raises(StoreUnavailable):
            await ask()
        bench.proxy.heal()


async def test_a_read_answered_once_by_something_in_between_succeeds(
    bench: Bench, store: VaultConfigStore
) -> None:
    bench.proxy.answer_next(http_answer("502 Bad Gateway", PAGE))

    assert await store.read(CHECKOUT, 1) == "one"


@pytest.mark.parametrize(
    "answer",
    [
        http_answer("400 Bad Request", PAGE),
        http_answer("400 Bad Request", b'{"errors": ["no such field"]}'),
        http_answer("404 Not Found", PAGE),
        http_answer("405 Method Not Allowed", b'{"errors": ["unsupported operation"]}'),
        http_answer("413 Content Too Large", PAGE),
        http_answer("503 Service Unavailable", b'{"errors": ["Vault is sealed"]}'),
    ],
    ids=case_name,
)
async def test_a_write_that_was_refused_took_no_version(
    bench: Bench, store: VaultConfigStore, answer: bytes
) -> None:
    bench.proxy.answer_next(answer, when=is_write)

    with pytest.raises(StoreUnavailable):
        await store.write(CHECKOUT, "two", base=1)


@pytest.mark.parametrize(
    "letter", ['"', "\n", "\x00"], ids=["quotes", "line breaks", "control characters"]
)
async def test_a_text_too_long_as_one_json_string_is_not_sent(
    bench: Bench, store: VaultConfigStore, letter: str
) -> None:
    fits = 1024 * 1024 // {'"': 2, "\n": 2}.get(letter, 6)

    with pytest.raises(DocumentTooLarge):
        await store.write(CHECKOUT, letter * (fits + 1), base=1)
    await store.write(CHECKOUT, letter * fits, base=1)

    assert await store.read(CHECKOUT, 2) == letter * fits


# What others did to a document


async def test_a_deleted_version_is_unreadable_until_undeleted(
    bench: Bench, store: VaultConfigStore
) -> None:
    await store.write(CHECKOUT, "two", base=1)
    bench.api("POST", "delete", {"versions": [1]})

    with pytest.raises(VersionUnreadable):
        await store.read(CHECKOUT, 1)
    assert await store.read(CHECKOUT, 2) == "two"
    assert await store.head(CHECKOUT) == Head(2, readable=True)

    bench.api("POST", "undelete", {"versions": [1]})
    assert await store.read(CHECKOUT, 1) == "one"


async def test_a_head_that_was_deleted_keeps_its_number(
    bench: Bench, store: VaultConfigStore
) -> None:
    bench.api("DELETE", "data")

    with pytest.raises(VersionUnreadable):
        await store.read(CHECKOUT, 1)
    assert await store.head(CHECKOUT) == Head(1, readable=False)
    assert list(await store.documents()) == [CHECKOUT]

    await store.write(CHECKOUT, "two", base=1)
    assert await store.head(CHECKOUT) == Head(2, readable=True)


async def test_a_destroyed_version_is_unreadable(bench: Bench, store: VaultConfigStore) -> None:
    bench.api("PUT", "destroy", {"versions": [1]})

    with pytest.raises(VersionUnreadable):
        await store.read(CHECKOUT, 1)
    assert await store.head(CHECKOUT) == Head(1, readable=False)


async def test_a_version_that_will_be_deleted_later_is_still_readable(
    bench: Bench, store: VaultConfigStore
) -> None:
    bench.api("POST", "metadata", {"delete_version_after": "1h"})
    await store.write(CHECKOUT, "two", base=1)

    assert await store.head(CHECKOUT) == Head(2, readable=True)
    assert await store.read(CHECKOUT, 2) == "two"


async def test_a_document_whose_metadata_was_deleted_was_never_there(
    bench: Bench, store: VaultConfigStore
) -> None:
    await store.write(CHECKOUT, "two", base=1)
    bench.api("DELETE", "metadata")

    assert await store.head(CHECKOUT) == Head(0, readable=True)
    assert list(await store.documents()) == []
    with pytest.raises(VersionMissing):
        await store.read(CHECKOUT, 2)
    with pytest.raises(VersionTaken):
        await store.write(CHECKOUT, "three", base=2)


async def test_a_new_document_requires_compare_and_set_and_keeps_its_versions(
    bench: Bench, store: VaultConfigStore
) -> None:
    found = bench.api("GET", "metadata")
    path = f"secret/data/{bench.prefix}/{CHECKOUT.path}"
    status, _ = bench.server.api("POST", path, {"data": {"document": "without"}})

    assert (found["cas_required"], found["max_versions"]) == (True, MAX_VERSIONS)
    assert status == 400


async def test_what_an_operator_set_for_a_document_stays(
    bench: Bench, store: VaultConfigStore
) -> None:
    bench.api("POST", "metadata", {"max_versions": 50, "custom_metadata": {"team": "blue"}})

    await store.write(CHECKOUT, "two", base=1)

    found = bench.api("GET", "metadata")
    assert (found["max_versions"], found["custom_metadata"]) == (50, {"team": "blue"})


@pytest.mark.parametrize(
    "data",
    [{"user": "ana", "password": "word"}, {"document": {"a": 1}}, {"document": 7}, {}],
    ids=["other fields", "an object", "a number", "nothing"],
)
async def test_a_secret_of_other_tools_is_no_text_of_ours(
    bench: Bench, store: VaultConfigStore, data: dict[str, object]
) -> None:
    bench.api("POST", "data", {"options": {"cas": 1}, "data": data})

    assert await store.read(CHECKOUT, 2) is None
    assert await store.head(CHECKOUT) == Head(2, readable=True)


# Mounts


@pytest.fixture
def version_1(bench: Bench) -> Iterator[str]:
    mount = bench.server.fresh_prefix()
    made = {"type": "kv", "options": {"version": "1"}}
    assert bench.server.api("POST", f"sys/mounts/{mount}", made)[0] == 204
    yield mount
    bench.server.api("DELETE", f"sys/mounts/{mount}")


async def test_a_mount_of_kv_version_1_is_refused(bench: Bench, version_1: str) -> None:
    store = bench.store(bench.client(bench.root), mount=version_1)

    with pytest.raises(KvVersionRefused, match="KV version 1; version 2 is needed"):
        await store.check_mount()
    for ask in (store.ping(), store.read(CHECKOUT, 1), store.write(CHECKOUT, "one", base=0)):
        with pytest.raises(StoreUnavailable, match="KV version 1"):
            await ask
    status, _ = bench.server.api("GET", f"{version_1}/{bench.prefix}?list=true")
    assert status == 404


async def test_a_mount_of_another_kind_is_refused(bench: Bench) -> None:
    with pytest.raises(KvVersionRefused):
        await bench.store(bench.client(bench.root), mount="transit").check_mount()


async def test_a_mount_that_is_not_there_makes_the_store_unavailable(bench: Bench) -> None:
    with pytest.raises(StoreUnavailable):
        await bench.store(bench.client(bench.root), mount="nowhere").check_mount()


async def test_a_mount_is_checked_once(bench: Bench, store: VaultConfigStore) -> None:
    bench.proxy.answer_next(
        http_answer("500 Internal Server Error"), when=lambda sent: b"/sys/internal/" in sent
    )

    await store.ping()
    assert await store.read(CHECKOUT, 1) == "one"


# Ciphers


async def test_a_secret_sealed_by_others_that_is_no_text_does_not_open(bench: Bench) -> None:
    cipher = bench.cipher(bench.client(bench.root))
    path = f"transit/encrypt/{bench.prefix}-staging"
    _, made = bench.server.api("POST", path, {"plaintext": "//79"})

    with pytest.raises(SecretUnreadable):
        await cipher.open("staging", [("", made["data"]["ciphertext"])])


@pytest.mark.parametrize("answer", UNRELIABLE, ids=case_name)
async def test_a_cipher_answered_by_something_in_between_is_unavailable(
    bench: Bench, answer: bytes
) -> None:
    cipher = bench.cipher(bench.client(bench.root))
    bench.proxy.answer_next(answer)

    with pytest.raises(StoreUnavailable):
        await cipher.seal("staging", [("", "word")])


# Other clients


@pytest.fixture
def other(bench: Bench) -> Iterator[Any]:
    client = hvac.Client(url=bench.server.address, token=bench.server.root_token)
    yield client.secrets.kv.v2
    client.adapter.close()


async def test_hvac_reads_what_was_written_here(
    bench: Bench, store: VaultConfigStore, other: Any
) -> None:
    await store.write(CHECKOUT, "Grüße, 世界 🚢", base=1)

    path = f"{bench.prefix}/{CHECKOUT.path}"
    read = partial(other.read_secret_version, path, raise_on_deleted_version=True)
    newest, first = read()["data"], read(version=1)["data"]

    assert newest["data"] == {"document": "Grüße, 世界 🚢"}
    assert newest["metadata"]["version"] == 2
    assert first["data"] == {"document": "one"}


async def test_what_hvac_wrote_is_read_here(
    bench: Bench, store: VaultConfigStore, other: Any
) -> None:
    path = f"{bench.prefix}/{CHECKOUT.path}"
    other.create_or_update_secret(path, {"document": "Grüße, 世界 🚢"}, cas=1)

    assert await store.head(CHECKOUT) == Head(2, readable=True)
    assert await store.read(CHECKOUT, 2) == "Grüße, 世界 🚢"
    with pytest.raises(VersionTaken):
        await store.write(CHECKOUT, "two", base=1)


# The policy we publish


async def test_our_policy_grants_all_that_is_needed(bench: Bench, role: Role) -> None:
    client = bench.client(role.login)
    store, cipher = bench.store(client), bench.cipher(client)
    of_user = document_id("staging", "checkout", "ana+test@example.com")

    await store.check_mount()
    await store.ping()
    for document in (CHECKOUT, of_user):
        await store.write(document, "one", base=0)
        await store.write(document, "two", base=1)
        assert await store.read(document, 1) == "one"
        assert await store.head(document) == Head(2, readable=True)
    assert set(await store.documents()) == {CHECKOUT, of_user}
    with pytest.raises(VersionMissing):
        await store.read(CHECKOUT, 3)

    mark = await cipher.fingerprint("production", "word")
    (sealed_word,) = await cipher.seal("staging", [("here", "word")])
    assert list(await cipher.open("staging", [("here", sealed_word.ciphertext)])) == ["word"]
    assert await cipher.fingerprint("production", "word") == mark

    assert (await client.ask("renew", API.tokens.renew_self())).status == 200
    assert role.logins() == 1


@pytest.fixture
def as_service(bench: Bench, role: Role) -> Callable[[str, str], Answer]:
    """Ask Vault for anything with the service's own token."""
    credentials = {"role_id": role.login.role_id, "secret_id": role.login.secret_id}
    _, answer = bench.server.api("POST", "auth/approle/login", credentials)
    headers = {"X-Vault-Token": answer["auth"]["client_token"]}

    def ask(method: str, path: str) -> Answer:
        url = f"{bench.server.address}/v1/{path}"
        return request(method, url, json=None if method == "GET" else {}, headers=headers)

    return ask


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "secret/data/{prefix}/layers/staging/checkout"),
        ("POST", "secret/delete/{prefix}/layers/staging/checkout"),
        ("POST", "secret/undelete/{prefix}/layers/staging/checkout"),
        ("PUT", "secret/destroy/{prefix}/layers/staging/checkout"),
        ("DELETE", "secret/metadata/{prefix}/layers/staging/checkout"),
        ("GET", "secret/data/elsewhere"),
        ("POST", "secret/data/elsewhere"),
        ("GET", "secret/data/{prefix}-too/layers/staging/checkout"),
        ("GET", "secret/metadata/?list=true"),
        ("POST", "secret/config"),
        ("GET", "transit/keys/{prefix}-staging"),
        ("POST", "transit/keys/{prefix}-staging"),
        ("POST", "transit/keys/{prefix}-staging/rotate"),
        ("POST", "transit/keys/{prefix}-staging/config"),
        ("DELETE", "transit/keys/{prefix}-staging"),
        ("GET", "transit/export/encryption-key/{prefix}-staging"),
        ("POST", "transit/rewrap/{prefix}-staging"),
        ("POST", "transit/encrypt/elsewhere"),
        ("POST", "transit/decrypt/elsewhere"),
        ("POST", "auth/token/create"),
        ("POST", "auth/token/revoke-self"),
        ("GET", "sys/policies/acl/{prefix}"),
        ("GET", "sys/mounts"),
        ("POST", "auth/approle/role/{prefix}/secret-id"),
    ],
)
async def test_our_policy_grants_nothing_else(
    bench: Bench,
    store: VaultConfigStore,
    as_service: Callable[[str, str], Answer],
    *,
    method: str,
    path: str,
) -> None:
    await bench.cipher(bench.client(bench.root)).seal("staging", [("", "word")])

    assert as_service(method, path.format(prefix=bench.prefix)).status == 403


def test_our_policy_never_mentions_deletion() -> None:
    rules = "\n".join(line for line in POLICY.read_text().splitlines() if not line.startswith("#"))
    granted = re.findall(r"capabilities = \[(.*)\]", rules)

    assert len(granted) == rules.count("path ") == 8
    assert set(re.findall(r'"(\w+)"', " ".join(granted))) == {"create", "read", "update", "list"}
