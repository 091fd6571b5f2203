"""What any Cipher must do. Runs once per adapter, with no exceptions for any."""

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.configs.errors import SecretUnreadable
from app.configs.store.embedded import EmbeddedCipher
from app.configs.store.port import Cipher, Sealed
from app.configs.store.vault import VaultCipher
from app.configs.store.vault_client import TokenLogin, VaultClient
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.vault import VaultServer

STAGING, PRODUCTION = "staging", "production"
HERE, ELSEWHERE = "layers/staging/checkout\0database.password", "layers/staging/cart\0password"
WORD = "correct horse battery staple"


@dataclass
class Rig:
    """One adapter on the bench: its keys can be rotated, and it can be started again."""

    cipher: Cipher
    rotate: Callable[[str], Awaitable[None]]  # the key of an environment, at least
    reopen: Callable[[], Awaitable[Cipher]]


async def embedded_rig(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    folder: Path = request.getfixturevalue("tmp_path")
    cipher = EmbeddedCipher(folder / "secrets.key")

    async def rotate(_: str) -> None:
        cipher.rotate()

    async def reopen() -> Cipher:
        return EmbeddedCipher(folder / "secrets.key")

    return Rig(cipher, rotate, reopen)


async def vault(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    server: VaultServer = request.getfixturevalue("vault_server")
    prefix = server.fresh_prefix()

    async def rotate(environment: str) -> None:
        status, answer = server.api("POST", f"transit/keys/{prefix}-{environment}/rotate")
        assert status == 200, answer

    async def reopen() -> Cipher:
        client = VaultClient(server.address, TokenLogin(server.root_token), seconds=PATIENT_SECONDS)
        stack.push_async_callback(client.close)
        return VaultCipher(client, mount="transit", prefix=prefix)

    return Rig(await reopen(), rotate, reopen)


@pytest.fixture(
    params=[
        pytest.param(embedded_rig, id="embedded"),
        pytest.param(vault, id="vault", marks=pytest.mark.servers),
    ]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await request.param(request, stack)


async def seal(
    cipher: Cipher, plain: str = WORD, *, environment: str = STAGING, context: str = HERE
) -> Sealed:
    (sealed,) = await cipher.seal(environment, [(context, plain)])
    return sealed


async def decrypt(
    cipher: Cipher, ciphertext: str, *, environment: str = STAGING, context: str = HERE
) -> str:
    (plain,) = await cipher.open(environment, [(context, ciphertext)])
    return plain


def key_version(ciphertext: str) -> str:
    return ciphertext.split(":")[1]


def flip_bit(ciphertext: str) -> str:
    """Change one bit in the middle of what was encrypted."""
    head, _, encoded = ciphertext.rpartition(":")
    raw = bytearray(base64.b64decode(encoded))
    raw[len(raw) // 2] ^= 1
    return f"{head}:{base64.b64encode(raw).decode()}"


# Sealing and opening


@pytest.mark.parametrize(
    "plain",
    [WORD, "", "Grüße, 世界 🚢\n\0", "x" * 100_000],
    ids=["words", "empty", "unicode", "large"],
)
async def test_what_was_sealed_opens(rig: Rig, plain: str) -> None:
    sealed = await seal(rig.cipher, plain)

    assert await decrypt(rig.cipher, sealed.ciphertext) == plain


async def test_many_open_in_the_order_they_were_sealed_in(rig: Rig) -> None:
    items = [(f"context {number}", f"secret {number}") for number in range(20)]
    sealed = await rig.cipher.seal(STAGING, items)

    shut = [(context, found.ciphertext) for (context, _), found in zip(items, sealed, strict=True)]

    assert list(await rig.cipher.open(STAGING, shut)) == [plain for _, plain in items]


async def test_nothing_is_sealed_and_opened_to_nothing(rig: Rig) -> None:
    assert list(await rig.cipher.seal(STAGING, [])) == []
    assert list(await rig.cipher.open(STAGING, [])) == []


async def test_what_was_sealed_opens_after_a_restart(rig: Rig) -> None:
    sealed = await seal(rig.cipher)

    assert await decrypt(await rig.reopen(), sealed.ciphertext) == WORD


async def test_nothing_sealed_shows_the_plain_text(rig: Rig) -> None:
    sealed = await seal(rig.cipher)

    for form in (WORD, base64.b64encode(WORD.encode()).decode(), WORD.encode().hex()):
        assert form not in sealed.ciphertext + sealed.fingerprint


async def test_the_same_secret_is_never_sealed_alike(rig: Rig) -> None:
    one, other = await seal(rig.cipher), await seal(rig.cipher)

    assert one.ciphertext != other.ciphertext


# What does not open


async def test_another_context_does_not_open(rig: Rig) -> None:
    sealed = await seal(rig.cipher)

    with pytest.raises(SecretUnreadable):
        await decrypt(rig.cipher, sealed.ciphertext, context=ELSEWHERE)


async def test_another_environment_does_not_open(rig: Rig) -> None:
    sealed = await seal(rig.cipher)
    await seal(rig.cipher, environment=PRODUCTION)

    for other in (PRODUCTION, "never-used"):
        with pytest.raises(SecretUnreadable):
            await decrypt(rig.cipher, sealed.ciphertext, environment=other)


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "garbage",
        "::",
        "vault:v1:",
        "vault:v1:AAAA",
        "vault:v1:!!!!",
        "vault:v0:AAAA",
        "vault:v-1:AAAA",
        "aes256-gcm:v1:",
        "aes256-gcm:v1:AAAA",
        "aes256-gcm:v0:AAAA",
        "aes256-gcm:v99999999999999999999:AAAA",
        "aes256-gcm:v1:🚢",
        "aes256-gcm:v1:" + "A" * 4000,
        "vault:v1:" + "A" * 4000,
    ],
)
async def test_garbage_does_not_open(rig: Rig, garbage: str) -> None:
    await seal(rig.cipher)

    with pytest.raises(SecretUnreadable):
        await decrypt(rig.cipher, garbage)


@pytest.mark.parametrize(
    "damage",
    [
        flip_bit,
        lambda text: text[:-8],
        lambda text: text.replace(":v1:", ":v2:"),
        lambda text: "other" + text,
    ],
    ids=["flipped", "shortened", "a key not yet made", "another scheme"],
)
async def test_a_damaged_secret_does_not_open(rig: Rig, damage: Callable[[str], str]) -> None:
    sealed = await seal(rig.cipher)

    with pytest.raises(SecretUnreadable):
        await decrypt(rig.cipher, damage(sealed.ciphertext))


async def test_one_secret_that_does_not_open_spoils_all_asked_for_with_it(rig: Rig) -> None:
    sealed = await seal(rig.cipher)
    items = [(HERE, sealed.ciphertext), (ELSEWHERE, sealed.ciphertext)]

    with pytest.raises(SecretUnreadable):
        await rig.cipher.open(STAGING, items)


# Rotation


async def test_a_rotated_key_seals_and_the_ones_before_still_open(rig: Rig) -> None:
    before = await seal(rig.cipher, "before")
    await rig.rotate(STAGING)
    after = await seal(rig.cipher, "after")

    assert [key_version(sealed.ciphertext) for sealed in (before, after)] == ["v1", "v2"]
    for cipher in (rig.cipher, await rig.reopen()):
        assert await decrypt(cipher, before.ciphertext) == "before"
        assert await decrypt(cipher, after.ciphertext) == "after"


# Fingerprints


async def test_a_fingerprint_is_that_of_environment_context_and_value(rig: Rig) -> None:
    sealed = await seal(rig.cipher)

    assert (await seal(rig.cipher)).fingerprint == sealed.fingerprint
    others = {
        (await seal(rig.cipher, "another word")).fingerprint,
        (await seal(rig.cipher, context=ELSEWHERE)).fingerprint,
        (await seal(rig.cipher, environment=PRODUCTION)).fingerprint,
    }
    assert len(others - {sealed.fingerprint}) == 3


async def test_a_fingerprint_needs_no_secret_sealed_before(rig: Rig) -> None:
    first = await rig.cipher.fingerprint(STAGING, WORD)

    assert await rig.cipher.fingerprint(STAGING, WORD) == first
    assert await rig.cipher.fingerprint(STAGING, "another word") != first
    assert await rig.cipher.fingerprint(PRODUCTION, WORD) != first
    assert WORD not in first


async def test_a_fingerprint_survives_a_restart(rig: Rig) -> None:
    before = await rig.cipher.fingerprint(STAGING, WORD)

    assert await (await rig.reopen()).fingerprint(STAGING, WORD) == before


# The key file of the embedded cipher


async def test_nobody_else_may_read_the_key_file(tmp_path: Path) -> None:
    file = tmp_path / "secrets.key"
    EmbeddedCipher(file).rotate()

    assert file.stat().st_mode & 0o777 == 0o600


async def test_a_key_file_is_not_rewritten_by_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "secrets.key"
    EmbeddedCipher(file)
    before = file.read_bytes()

    EmbeddedCipher(file)

    assert file.read_bytes() == before


async def test_keys_are_counted_from_1(tmp_path: Path) -> None:
    cipher = EmbeddedCipher(tmp_path / "secrets.key")
    sealed = await seal(cipher)

    with pytest.raises(SecretUnreadable):
        await decrypt(cipher, sealed.ciphertext.replace(":v1:", ":v0:"))


async def test_two_key_files_do_not_open_each_other(tmp_path: Path) -> None:
    sealed = await seal(EmbeddedCipher(tmp_path / "one.key"))

    with pytest.raises(SecretUnreadable):
        await decrypt(EmbeddedCipher(tmp_path / "other.key"), sealed.ciphertext)
