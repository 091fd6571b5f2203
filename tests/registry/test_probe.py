"""Probes of real listeners: where they go, what they take for health, when they give up."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.outbound.addresses import Address, AddressPolicy
from app.outbound.pinning import BODY_BYTES
from app.outbound.resolver import Resolve, SystemResolver
from app.outbound.trust import trusting_context
from app.registry.health.probe import Prober
from tests.servers.process import SLACK_SECONDS

HERE = "127.0.0.2"  # the only address that may be probed here
CANARY = "127.0.0.1"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class Listener:
    """Answers every request with the same bytes; tells what it was asked."""

    def __init__(self, answer: bytes = OK, *, endless: bytes = b"", stays: bool = False) -> None:
        self.answer, self.endless, self.stays = answer, endless, stays
        self.asked: list[str] = []
        self.connections = 0
        self.sent = 0
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(request.decode())
            writer.write(self.answer)
            if self.stays:
                await reader.read()
            while self.endless:
                writer.write(self.endless)
                self.sent += len(self.endless)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(
    listener: Listener, address: str = HERE, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Listener]:
    server = await asyncio.start_server(listener.handle, address, port, ssl=tls)
    listener.port = server.sockets[0].getsockname()[1]
    async with server:
        yield listener


@asynccontextmanager
async def both_listening(first: str, second: str) -> AsyncIterator[tuple[Listener, Listener]]:
    """Listen at one port of two addresses: what is free at one may be taken at the other."""
    one, other = Listener(), Listener()
    async with AsyncExitStack() as stack:
        while not other.port:
            async with AsyncExitStack() as attempt:
                await attempt.enter_async_context(listening(one, first))
                with suppress(OSError):
                    await attempt.enter_async_context(listening(other, second, one.port))
                    await stack.enter_async_context(attempt.pop_all())
        yield one, other


class Answers:
    """A name server whose answer changes: each question gets the next one, then the last again."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = [list(map(ip_address, answer)) for answer in answers]
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[Address]:
        self.asked.append(host)
        found = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if not found:
            raise socket.gaierror
        return found


@asynccontextmanager
async def probing(
    resolve: Resolve, *allowed: str, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Prober]:
    policy = AddressPolicy(list(map(ip_network, allowed or [HERE])))
    prober = Prober(resolve, policy, tls=tls)
    try:
        yield prober
    finally:
        await prober.close()


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    async with probing(Answers([HERE])) as opened:
        yield opened


async def test_an_instance_that_answers_is_healthy(prober: Prober) -> None:
    async with listening(Listener()) as instance:
        probe = await prober.probe(f"http://billing.example:{instance.port}/health?deep=%20")

    assert (probe.is_healthy, probe.reason) == (True, "answered 200")
    assert 0 < probe.seconds < SLACK_SECONDS
    [request] = instance.asked
    assert request.startswith("GET /health?deep=%20 HTTP/1.1\r\n")
    assert f"\r\nHost: billing.example:{instance.port}\r\n" in request
    assert "Authorization" not in request
    assert "Cookie" not in request


@pytest.mark.parametrize(
    ("status", "is_healthy"),
    [(200, True), (204, True), (299, True), (301, False), (404, False), (500, False), (503, False)],
)
async def test_a_status_of_2xx_is_healthy(
    prober: Prober,
    status: int,
    is_healthy: bool,  # noqa: FBT001
) -> None:
    answer = b"HTTP/1.1 %d x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status
    async with listening(Listener(answer)) as instance:
        probe = await prober.probe(f"http://a:{instance.port}")

    assert (probe.is_healthy, probe.reason) == (is_healthy, f"answered {status}")


async def test_a_name_that_moves_is_resolved_once_and_leads_nowhere_else() -> None:
    resolve = Answers([HERE], [CANARY])
    async with (
        probing(resolve) as prober,
        both_listening(HERE, CANARY) as (instance, canary),
    ):
        first = await prober.probe(f"http://moving.example:{instance.port}")
        count_before = len(resolve.asked)
        second = await prober.probe(f"http://moving.example:{instance.port}")

    assert (first.is_healthy, count_before) == (True, 1)
    assert "may not be probed" in second.reason
    assert (instance.connections, canary.connections) == (1, 0)


@pytest.mark.parametrize(
    "address",
    [
        *(CANARY, "0.0.0.0", "::", "::1", f"::ffff:{CANARY}", f"::{CANARY}", "64:ff9b::7f00:1"),
        *("169.254.169.254", "fe80::1", "224.0.0.1", "255.255.255.255", "fd00:ec2::254"),
    ],
)
async def test_what_is_not_allowed_is_not_even_connected_to(address: str) -> None:
    async with (
        probing(Answers([address])) as prober,
        both_listening("0.0.0.0", "::1") as (canary, other),
    ):
        by_name = await prober.probe(f"http://a:{canary.port}")
        host = f"[{address}]" if ":" in address else address
        by_address = await prober.probe(f"http://{host}:{canary.port}")

    assert "may not be probed" in by_name.reason
    assert "may not be probed" in by_address.reason
    assert not by_name.is_healthy
    assert (canary.connections, other.connections) == (0, 0)


async def test_among_several_addresses_one_that_may_be_probed_is_chosen() -> None:
    async with (
        probing(Answers([CANARY, "::1", HERE])) as prober,
        both_listening(HERE, CANARY) as (instance, canary),
    ):
        probe = await prober.probe(f"http://a:{instance.port}")

    assert probe.is_healthy
    assert canary.connections == 0


@pytest.mark.parametrize("first", [["::1"], ["127.0.0.3", "127.0.0.4", "::1"]])
async def test_a_server_at_a_later_address_of_a_name_is_found(first: list[str]) -> None:
    async with (
        probing(Answers([*first, HERE]), "127.0.0.0/8", "::1/128") as prober,
        listening(Listener()) as instance,
    ):
        probe = await prober.probe(f"http://a:{instance.port}")
        nobody = await prober.probe("http://a:1")

    assert (probe.is_healthy, probe.reason) == (True, "answered 200")
    assert instance.connections == 1
    assert "cannot be reached" in nobody.reason


async def test_a_silent_address_costs_its_share_of_the_time_and_no_more() -> None:
    async with (
        probing(Answers([CANARY, HERE]), "127.0.0.0/8") as prober,
        both_listening(HERE, CANARY) as (instance, canary),
    ):
        canary.answer, canary.stays = b"", True
        probe = await prober.probe(f"http://a:{instance.port}", seconds=2)

    assert probe.is_healthy
    assert 0.9 < probe.seconds < 2
    assert (instance.connections, canary.connections) == (1, 1)


async def test_an_answer_is_an_answer_whatever_another_address_would_say() -> None:
    async with (
        probing(Answers([CANARY, HERE]), "127.0.0.0/8") as prober,
        both_listening(HERE, CANARY) as (instance, canary),
    ):
        canary.answer = b"HTTP/1.1 503 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        probe = await prober.probe(f"http://a:{instance.port}")

    assert (probe.is_healthy, probe.reason) == (False, "answered 503")
    assert instance.connections == 0


async def test_loopback_may_be_allowed() -> None:
    async with (
        probing(Answers([]), "127.0.0.0/8", "::1/128") as prober,
        listening(Listener(), CANARY) as instance,
        listening(Listener(), "::1") as other,
    ):
        assert (await prober.probe(f"http://{CANARY}:{instance.port}")).is_healthy
        assert (await prober.probe(f"http://[::ffff:{CANARY}]:{instance.port}")).is_healthy
        assert (await prober.probe(f"http://[::1]:{other.port}")).is_healthy

    assert f"Host: [::1]:{other.port}\r\n" in other.asked[0]


async def test_a_redirect_is_an_answer_and_not_followed(prober: Prober) -> None:
    async with listening(Listener(), CANARY) as canary:
        to = f"http://{CANARY}:{canary.port}/".encode()
        moved = b"HTTP/1.1 302 x\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % to
        async with listening(Listener(moved)) as instance:
            probe = await prober.probe(f"http://a:{instance.port}")

    assert (probe.is_healthy, probe.reason) == (False, "answered 302")
    assert canary.connections == 0


async def test_a_cookie_is_not_brought_back(prober: Prober) -> None:
    set_cookie = OK.replace(b"Content-Length", b"Set-Cookie: a=b\r\nContent-Length")
    async with listening(Listener(set_cookie)) as instance:
        for _ in range(2):
            assert (await prober.probe(f"http://a:{instance.port}")).is_healthy

    assert "Cookie" not in instance.asked[1]


async def test_an_endless_body_is_left_after_its_bound(prober: Prober) -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    async with listening(Listener(head, endless=b"x" * 4096)) as instance:
        probe = await prober.probe(f"http://a:{instance.port}")

    assert probe.is_healthy
    assert instance.sent >= BODY_BYTES


async def test_an_endless_answer_of_nothing_is_given_up(prober: Prober) -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    async with listening(Listener(head, endless=b"x: y\r\n" * 1000)) as instance:
        probe = await prober.probe(f"http://a:{instance.port}", seconds=0.5)

    assert not probe.is_healthy
    assert probe.seconds < 0.5 + SLACK_SECONDS


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"]
)
async def test_silence_is_given_up_at_the_deadline(prober: Prober, answer: bytes) -> None:
    async with listening(Listener(answer, stays=True)) as instance:
        probe = await prober.probe(f"http://a:{instance.port}", seconds=0.3)

    assert (probe.is_healthy, probe.reason) == (False, "did not answer within 0.3 s")
    assert 0.2 < probe.seconds < 0.3 + SLACK_SECONDS


async def test_a_name_server_that_is_silent_counts_as_well() -> None:
    async def never(_: str) -> Sequence[Address]:
        await asyncio.Event().wait()
        return []

    async with probing(never) as prober:
        probe = await prober.probe("http://a", seconds=0.2)

    assert probe.reason == "did not answer within 0.2 s"


async def test_what_cannot_be_probed_is_told() -> None:
    async with probing(Answers([])) as prober:
        assert "does not resolve" in (await prober.probe("http://a")).reason
        assert "not an absolute URL" in (await prober.probe("/health")).reason
        assert "neither http nor https" in (await prober.probe("tcp://a:21")).reason
        assert "the scheme ftp" in (await prober.probe("ftp://a:21")).reason
        assert "cannot be reached" in (await prober.probe(f"http://{HERE}:1")).reason


def certificate(folder: Path, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make a certificate for `host` that vouches for itself; return the server's end and ours."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an instance for tests")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / "certificate.pem", folder / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem, private)
    return server, ssl.create_default_context(cafile=str(pem))


async def test_a_certificate_must_be_trusted_and_of_the_name_that_was_asked_for(
    tmp_path: Path, prober: Prober
) -> None:
    server, trusting = certificate(tmp_path, "billing.example")
    resolve = Answers([HERE])
    async with (
        listening(Listener(), tls=server) as instance,
        probing(resolve, tls=trusting) as knowing,
    ):
        good = await knowing.probe(f"https://billing.example:{instance.port}")
        other = await knowing.probe(f"https://other.example:{instance.port}")
        bare = await knowing.probe(f"https://{HERE}:{instance.port}")
        unknown = await prober.probe(f"https://billing.example:{instance.port}")

    assert good.is_healthy
    for refused in (other, bare, unknown):
        assert not refused.is_healthy
        assert "Certificate" in refused.reason
    assert len(instance.asked) == 1


async def test_authorities_of_a_file_are_trusted_beside_those_of_the_machine(
    tmp_path: Path,
) -> None:
    server, _ = certificate(tmp_path, "billing.example")
    context = trusting_context(str(tmp_path / "certificate.pem"))
    async with (
        listening(Listener(), tls=server) as instance,
        probing(Answers([HERE]), tls=context) as prober,
    ):
        probe = await prober.probe(f"https://billing.example:{instance.port}")

    assert probe.is_healthy
    assert context is not None
    assert (
        context.cert_store_stats()["x509_ca"]
        >= ssl.create_default_context().cert_store_stats()["x509_ca"]
    )
    assert trusting_context(None) is None


async def test_this_machine_resolves_its_own_name() -> None:
    resolver = SystemResolver()
    try:
        found = await resolver("localhost")
        with pytest.raises(OSError, match=r"."):
            await resolver("no-such-host.invalid")
    finally:
        resolver.close()

    assert ip_address("127.0.0.1") in found or ip_address("::1") in found
