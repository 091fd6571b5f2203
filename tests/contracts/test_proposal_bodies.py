"""What any adapter of ProposalBodies must do. Runs once per adapter, with no exceptions for any."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import pytest

from app.configs.errors import StoreUnavailable
from app.configs.store.vault_client import TokenLogin, VaultClient
from app.proposals.bodies.embedded import EmbeddedProposalBodies
from app.proposals.bodies.port import MAX_BODY_BYTES, ProposalBodies
from app.proposals.bodies.vault import VaultProposalBodies
from app.proposals.errors import BodyMissing, BodyTaken, BodyTooLarge
from tests.contracts.rigs import embedded_bench
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.process import SLACK_SECONDS
from tests.servers.proxy import LossyProxy
from tests.servers.vault import VaultServer

POLICY = Path(__file__).parents[2] / "docs" / "policies" / "pilothouse.hcl"
NAME = "p-1.1"


@dataclass
class Rig:
    """One adapter; `remains` returns all that is stored under a name, past the adapter."""

    bodies: ProposalBodies
    cut: Callable[[], Awaitable[None]]
    remains: Callable[[str], Awaitable[str]]


async def embedded_rig(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = embedded_bench(request, stack)

    async def remains(name: str) -> str:
        rows = await bench.state.read(
            lambda connection: connection.execute(
                "SELECT body FROM proposal_bodies WHERE name = ?", (name,)
            ).fetchall()
        )
        return "".join(str(row["body"]) for row in rows)

    return Rig(EmbeddedProposalBodies(bench.state), bench.state.close, remains)


async def vault_rig(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    """Vault, with no other rights than those of the policy in the manual."""
    server: VaultServer = request.getfixturevalue("vault_server")
    parts, prefix = urlsplit(server.address), server.fresh_prefix()
    policy = POLICY.read_text().replace("pilothouse/", f"{prefix}/")
    status, answer = server.api("POST", f"sys/policies/acl/{prefix}", {"policy": policy})
    assert status < 300, answer
    body = {"policies": [prefix], "no_default_policy": True}
    status, answer = server.api("POST", "auth/token/create", body)
    assert status == 200, answer
    proxy = stack.enter_context(LossyProxy(parts.hostname or "", parts.port or 0))
    login = TokenLogin(answer["auth"]["client_token"])
    client = VaultClient(f"http://127.0.0.1:{proxy.port}", login, seconds=PATIENT_SECONDS)
    stack.push_async_callback(client.close)

    async def cut() -> None:
        proxy.refuse()
        proxy.cut()

    async def remains(name: str) -> str:
        path = f"{prefix}/proposals/{name}"
        answers = [
            server.api("GET", f"secret/data/{path}?version={version}") for version in (1, 2, 3)
        ]
        return " ".join(
            str(((answer or {}).get("data") or {}).get("data") or "") for _, answer in answers
        ).strip()

    return Rig(VaultProposalBodies(client, mount="secret", prefix=prefix), cut, remains)


@pytest.fixture(
    params=[
        pytest.param(embedded_rig, id="embedded"),
        pytest.param(vault_rig, id="vault", marks=pytest.mark.servers),
    ]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await request.param(request, stack)


@pytest.mark.parametrize("text", ["{}", 'ä "quoted" \\ \n \U0001f680'])
async def test_what_was_written_is_read(rig: Rig, text: str) -> None:
    await rig.bodies.write(NAME, text)

    assert await rig.bodies.read(NAME) == text


async def test_a_text_is_written_once(rig: Rig) -> None:
    await rig.bodies.write(NAME, "one")

    with pytest.raises(BodyTaken):
        await rig.bodies.write(NAME, "two")
    assert await rig.bodies.read(NAME) == "one"


async def test_of_many_writers_at_once_one_wins(rig: Rig) -> None:
    results = await asyncio.gather(
        *(rig.bodies.write(NAME, f"text {number}") for number in range(8)), return_exceptions=True
    )

    assert sum(result is None for result in results) == 1
    assert sum(isinstance(result, BodyTaken) for result in results) == 7
    assert await rig.bodies.read(NAME) == f"text {results.index(None)}"


async def test_a_text_that_is_emptied_is_destroyed_and_its_name_stays_taken(rig: Rig) -> None:
    await rig.bodies.write(NAME, "canary")
    assert "canary" in await rig.remains(NAME)

    await rig.bodies.empty(NAME)
    await rig.bodies.empty(NAME)

    assert await rig.remains(NAME) == ""
    with pytest.raises(BodyMissing):
        await rig.bodies.read(NAME)
    with pytest.raises(BodyTaken):
        await rig.bodies.write(NAME, "again")
    assert await rig.bodies.names() == [NAME]


async def test_what_never_was_is_missing(rig: Rig) -> None:
    assert list(await rig.bodies.names()) == []
    with pytest.raises(BodyMissing):
        await rig.bodies.read(NAME)


async def test_all_names_are_listed(rig: Rig) -> None:
    for name in ("p-2.1", "p-1.2", "p-1.1"):
        await rig.bodies.write(name, "text")

    assert await rig.bodies.names() == ["p-1.1", "p-1.2", "p-2.1"]


async def test_as_much_is_stored_as_is_promised(rig: Rig) -> None:
    await rig.bodies.write(NAME, "x" * MAX_BODY_BYTES)
    assert len(await rig.bodies.read(NAME)) == MAX_BODY_BYTES

    with pytest.raises(BodyTooLarge):
        await rig.bodies.write("p-1.2", "x" * (MAX_BODY_BYTES + 1))
    assert await rig.bodies.names() == [NAME]


async def test_a_store_that_is_cut_off_fails_in_time(rig: Rig) -> None:
    await rig.bodies.write(NAME, "one")
    await rig.cut()

    for call in (rig.bodies.read(NAME), rig.bodies.write("p-1.2", "two"), rig.bodies.empty(NAME)):
        began = monotonic()
        with pytest.raises(StoreUnavailable):
            await call
        assert monotonic() - began < SLACK_SECONDS
