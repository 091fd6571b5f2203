"""Documents in Vault KV v2, secrets sealed by Vault transit."""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from app.configs.errors import (
    DocumentTooLarge,
    SecretUnreadable,
    StoreUnavailable,
    VersionMissing,
    VersionTaken,
    VersionUnreadable,
    WriteUnanswered,
)
from app.configs.model import DocumentId, document_at
from app.configs.port import Head, Sealed
from app.configs.vault_client import Reply, VaultClient
from pilothouse_core.names import is_name

_MAX_STRING_BYTES = 1024 * 1024  # what Vault takes as one JSON string, counted with its escapes


class KvVersionRefused(RuntimeError):
    """The mount is not KV version 2: there would be no versions and no compare-and-set."""

    def __init__(self, mount: str, found: str) -> None:
        super().__init__(f"VAULT_MOUNT_POINT {mount!r} is KV version {found}; version 2 is needed")


class VaultConfigStore:
    def __init__(self, vault: VaultClient, *, mount: str, prefix: str, max_versions: int) -> None:
        self._vault = vault
        self._mount = mount
        self._prefix = prefix
        self._max_versions = max_versions
        self._mount_checked = False

    async def check_mount(self) -> None:
        """Raise KvVersionRefused unless the mount is KV v2; the question needs no policy."""
        reply = await self._vault.read("mount", f"sys/internal/ui/mounts/{self._mount}")
        _require(reply, 200)
        options = reply.data.get("options")
        version = options.get("version", "1") if isinstance(options, dict) else "1"
        if str(version) != "2":
            raise KvVersionRefused(self._mount, str(version))
        self._mount_checked = True

    async def _ready(self) -> None:
        if self._mount_checked:
            return
        try:
            await self.check_mount()
        except KvVersionRefused as error:
            raise StoreUnavailable(str(error)) from error

    async def read(self, document: DocumentId, version: int) -> str | None:
        if version < 1:
            raise VersionMissing("versions begin with 1")  # Vault would answer with the newest
        await self._ready()
        reply = await self._vault.read("read", f"{self._data(document)}?version={version}")
        if reply.status == 404:
            raise _unreadable(reply)
        _require(reply, 200, "metadata")
        text = (reply.data.get("data") or {}).get("document")
        return text if isinstance(text, str) else None

    async def write(self, document: DocumentId, text: str, *, base: int) -> None:
        _refuse_too_large(text)
        await self._ready()
        if base == 0:
            await self._prepare(document)
        body = {"options": {"cas": base}, "data": {"document": text}}
        reply = await self._vault.call("write", "POST", self._data(document), body)
        if reply.status == 400 and "check-and-set" in reply.errors:
            raise VersionTaken("Vault refused the compare-and-set")
        _require(reply, 200)
        if reply.data.get("version") != base + 1:
            raise WriteUnanswered("Vault answered with another version than base + 1")

    async def _prepare(self, document: DocumentId) -> None:
        """Fix how the document is kept before it has a version: Vault keeps 10 by default."""
        settings = {"cas_required": True, "max_versions": self._max_versions}
        path = self._metadata(document.path)
        _require(await self._vault.ask("create", path, settings), 204)

    async def head(self, document: DocumentId) -> Head:
        await self._ready()
        reply = await self._vault.read("head", self._metadata(document.path))
        if reply.status == 404:
            return Head(0, readable=True)
        _require(reply, 200, "current_version")
        version = int(reply.data["current_version"])
        facts = (reply.data.get("versions") or {}).get(str(version)) or {}
        return Head(version, readable=not facts.get("destroyed") and not _deleted(facts))

    async def documents(self) -> Sequence[DocumentId]:
        await self._ready()
        paths = [*await self._below("layers", 2), *await self._below("users", 3)]
        return [found for path in paths if (found := document_at(path)) is not None]

    async def _below(self, folder: str, depth: int) -> list[str]:
        reply = await self._vault.read("list", f"{self._metadata(folder)}/?list=true")
        if reply.status == 404:
            return []
        _require(reply, 200, "keys")
        names = [str(name) for name in reply.data["keys"]]
        if depth == 1:
            return [f"{folder}/{name}" for name in names if not name.endswith("/")]
        found: list[str] = []
        for name in names:
            if name.endswith("/") and is_name(name[:-1]):
                found += await self._below(f"{folder}/{name[:-1]}", depth - 1)
        return found

    async def ping(self) -> None:
        """The token's own look-up: it fails when Vault is sealed, away, or refuses the token."""
        _require(await self._vault.read("ping", "auth/token/lookup-self"), 200)
        await self._ready()

    def _data(self, document: DocumentId) -> str:
        return f"{self._mount}/data/{self._prefix}/{document.path}"

    def _metadata(self, path: str) -> str:
        return f"{self._mount}/metadata/{self._prefix}/{path}"


def _refuse_too_large(text: str) -> None:
    """Vault would answer 500, and nobody could tell that from a write that may have landed."""
    size = len(json.dumps(text, ensure_ascii=False).encode()) - len('""')
    if size > _MAX_STRING_BYTES:
        raise DocumentTooLarge(size, _MAX_STRING_BYTES)


def _unreadable(reply: Reply) -> VersionUnreadable | VersionMissing:
    """A deleted or destroyed version is 404 with its metadata, an unknown one without."""
    if reply.data.get("metadata"):
        return VersionUnreadable("the version was deleted or destroyed in Vault")
    return VersionMissing("Vault has no such version")


def _deleted(facts: Mapping[str, Any]) -> bool:
    when = str(facts.get("deletion_time") or "")
    # Vault writes nanoseconds; whole seconds decide well enough and parse everywhere.
    return bool(when) and datetime.fromisoformat(when[:19] + "+00:00") <= datetime.now(UTC)


def _require(reply: Reply, status: int, member: str | None = None) -> None:
    if reply.status != status:
        raise StoreUnavailable(f"Vault answered {reply.status}")
    if member is not None and member not in reply.data:
        raise StoreUnavailable(f"an answer without {member!r} is none of Vault's")


class VaultCipher:
    """One transit key per environment, created by Vault at its first use."""

    def __init__(self, vault: VaultClient, *, mount: str, prefix: str) -> None:
        self._vault = vault
        self._mount = mount
        self._prefix = prefix

    async def seal(self, environment: str, items: Sequence[tuple[str, str]]) -> Sequence[Sealed]:
        batch = [
            {"plaintext": _b64(plain), "associated_data": _b64(context)} for context, plain in items
        ]
        ciphertexts = await self._batch("encrypt", environment, batch, "ciphertext")
        marks = await self._batch(
            "hmac",
            environment,
            [{"input": _b64(f"{context}\0{plain}")} for context, plain in items],
            "hmac",
        )
        return [Sealed(text, mark) for text, mark in zip(ciphertexts, marks, strict=True)]

    async def open(self, environment: str, items: Sequence[tuple[str, str]]) -> Sequence[str]:
        batch = [{"ciphertext": text, "associated_data": _b64(context)} for context, text in items]
        plain = await self._batch("decrypt", environment, batch, "plaintext")
        try:
            return [base64.b64decode(text).decode() for text in plain]
        except ValueError as error:
            raise SecretUnreadable("the secret is no text") from error

    async def fingerprint(self, environment: str, text: str) -> str:
        items = [{"input": _b64(text)}]
        try:
            (mark,) = await self._batch("hmac", environment, items, "hmac")
        except SecretUnreadable:
            # Vault makes a key when something is encrypted, and not for a digest.
            await self._batch("encrypt", environment, [{"plaintext": ""}], "ciphertext")
            (mark,) = await self._batch("hmac", environment, items, "hmac")
        return mark

    async def _batch(
        self, operation: str, environment: str, items: list[dict[str, str]], member: str
    ) -> list[str]:
        if not items:
            return []
        path = f"{self._mount}/{operation}/{self._prefix}-{environment}"
        reply = await self._vault.ask(operation, path, {"batch_input": items})
        results = reply.data.get("batch_results") or ()
        found = [result[member] for result in results if member in result]
        if reply.status != 200 or len(found) != len(items):
            raise SecretUnreadable(f"Vault transit could not {operation} (status {reply.status})")
        return found


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
