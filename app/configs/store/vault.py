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
from app.configs.store.port import Head, Sealed
from app.configs.store.vault_api import API, VaultRequest
from app.configs.store.vault_client import Reply, VaultClient
from pilothouse_core.names import is_name

_NEVER = "0s"  # `delete_version_after` of what Vault keeps
_MAX_STRING_BYTES = 1024 * 1024  # what Vault takes as one JSON string, counted with its escapes


class KvVersionRefused(RuntimeError):
    """The mount is not KV version 2: there would be no versions and no compare-and-set."""

    def __init__(self, mount: str, version: str) -> None:
        super().__init__(
            f"VAULT_MOUNT_POINT {mount!r} is KV version {version}; version 2 is needed"
        )


class VaultConfigStore:
    def __init__(self, vault: VaultClient, *, mount: str, prefix: str, max_versions: int) -> None:
        self._vault = vault
        self._mount = mount
        self._prefix = prefix
        self._max_versions = max_versions
        self._mount_checked = False

    async def check_mount(self) -> None:
        """Raise KvVersionRefused unless the mount is KV v2; the question needs no policy."""
        reply = await self._vault.read("mount", API.read_mount(self._mount))
        _require(reply, 200)
        options = reply.data.get("options")
        version = options.get("version", "1") if isinstance(options, dict) else "1"
        if str(version) != "2":
            raise KvVersionRefused(self._mount, str(version))
        self._mount_checked = True

    async def find_expiry(self) -> str:
        """Return after which time the mount deletes versions, "" if it keeps them.

        Raises StoreUnavailable also where the policy does not let us ask; the versions written
        since tell it as well, see `head`.
        """
        reply = await self._vault.read(
            "mount_settings", API.kv.read_configuration(mount_point=self._mount)
        )
        _require(reply, 200)
        setting = str(reply.data.get("delete_version_after") or _NEVER)
        return "" if setting == _NEVER else setting

    async def _check_mount_once(self) -> None:
        if self._mount_checked:
            return
        try:
            await self.check_mount()
        except KvVersionRefused as error:
            raise StoreUnavailable(str(error)) from error

    async def read(self, document: DocumentId, version: int) -> str | None:
        if version < 1:
            raise VersionMissing("versions begin with 1")  # Vault would answer with the newest
        await self._check_mount_once()
        request = API.kv.read_secret_version(
            self._path(document.path), version, self._mount, raise_on_deleted_version=False
        )
        reply = await self._vault.read("read", request)
        if reply.status == 404:
            raise _missing_version_error(reply)
        _require(reply, 200, "metadata")
        text = (reply.data.get("data") or {}).get("document")
        return text if isinstance(text, str) else None

    async def write(self, document: DocumentId, text: str, *, base: int) -> None:
        _refuse_too_large(text)
        await self._check_mount_once()
        if base == 0:
            await self._prepare(document)
        request = API.kv.create_or_update_secret(
            self._path(document.path), {"document": text}, cas=base, mount_point=self._mount
        )
        reply = await self._vault.call("write", request)
        if reply.status == 400 and "check-and-set" in reply.errors:
            raise VersionTaken("Vault refused the compare-and-set")
        _require(reply, 200)
        if reply.data.get("version") != base + 1:
            raise WriteUnanswered("Vault answered with another version than base + 1")

    async def _prepare(self, document: DocumentId) -> None:
        """Fix how the document is kept before it has a version: Vault keeps 10 by default."""
        request = API.kv.update_metadata(
            self._path(document.path),
            max_versions=self._max_versions,
            cas_required=True,
            mount_point=self._mount,
        )
        _require(await self._vault.ask("create", request), 204)

    async def head(self, document: DocumentId) -> Head:
        await self._check_mount_once()
        reply = await self._vault.read(
            "head", API.kv.read_secret_metadata(self._path(document.path), self._mount)
        )
        if reply.status == 404:
            return Head(0, readable=True)
        _require(reply, 200, "current_version")
        version = int(reply.data["current_version"])
        versions: Mapping[str, Any] = reply.data.get("versions") or {}
        return Head(
            version,
            readable=not _is_unreadable(versions.get(str(version)) or {}),
            unreadable=frozenset(int(n) for n, facts in versions.items() if _is_unreadable(facts)),
            expires_after=_expiry(reply.data, versions.get(str(version)) or {}),
        )

    async def documents(self) -> Sequence[DocumentId]:
        await self._check_mount_once()
        paths = [*await self._list_below("layers", 2), *await self._list_below("users", 3)]
        return [document for path in paths if (document := document_at(path)) is not None]

    async def _list_below(self, folder: str, depth: int) -> list[str]:
        reply = await self._vault.read("list", API.kv.list_secrets(self._path(folder), self._mount))
        if reply.status == 404:
            return []
        _require(reply, 200, "keys")
        names = [str(name) for name in reply.data["keys"]]
        if depth == 1:
            return [f"{folder}/{name}" for name in names if not name.endswith("/")]
        paths: list[str] = []
        for name in names:
            if name.endswith("/") and is_name(name[:-1]):
                paths += await self._list_below(f"{folder}/{name[:-1]}", depth - 1)
        return paths

    async def ping(self) -> None:
        """Look the token up: fails when Vault is sealed, unavailable, or refuses the token."""
        _require(await self._vault.read("ping", API.tokens.lookup_self()), 200)
        await self._check_mount_once()

    def _path(self, path: str) -> str:
        return f"{self._prefix}/{path}"


def _refuse_too_large(text: str) -> None:
    """Vault would answer 500, which is indistinguishable from a write that may be stored."""
    size = len(json.dumps(text, ensure_ascii=False).encode()) - len('""')
    if size > _MAX_STRING_BYTES:
        raise DocumentTooLarge(size, _MAX_STRING_BYTES)


def _missing_version_error(reply: Reply) -> VersionUnreadable | VersionMissing:
    """A deleted or destroyed version is 404 with its metadata, an unknown one without."""
    if reply.data.get("metadata"):
        return VersionUnreadable("the version was deleted or destroyed in Vault")
    return VersionMissing("Vault has no such version")


def _is_unreadable(facts: Mapping[str, Any]) -> bool:
    return bool(facts.get("destroyed")) or _is_deleted(facts)


def _expiry(metadata: Mapping[str, Any], newest: Mapping[str, Any]) -> str:
    """Return what Vault says of versions that it deletes by itself, "" if it keeps them.

    A setting of the mount shows only in the versions written since.
    """
    setting = str(metadata.get("delete_version_after") or "0s")
    if setting != _NEVER:
        return setting
    when = str(newest.get("deletion_time") or "")
    return f"set on the mount, next at {when}" if when and not _is_deleted(newest) else ""


def _is_deleted(facts: Mapping[str, Any]) -> bool:
    when = str(facts.get("deletion_time") or "")
    # Vault writes nanoseconds; whole seconds decide well enough and parse everywhere.
    return bool(when) and datetime.fromisoformat(when[:19] + "+00:00") <= datetime.now(UTC)


def _require(reply: Reply, status: int, member: str | None = None) -> None:
    if reply.status != status:
        raise StoreUnavailable(f"Vault answered {reply.status}")
    if member is not None and member not in reply.data:
        raise StoreUnavailable(f"unexpected response from Vault: {member!r} is missing")


class VaultCipher:
    """One transit key per environment, created by Vault at its first use."""

    def __init__(self, vault: VaultClient, *, mount: str, prefix: str) -> None:
        self._vault = vault
        self._mount = mount
        self._prefix = prefix

    async def seal(self, environment: str, items: Sequence[tuple[str, str]]) -> Sequence[Sealed]:
        ciphertexts = await self._encrypt(
            environment,
            [
                {"plaintext": _b64(plain), "associated_data": _b64(context)}
                for context, plain in items
            ],
        )
        marks = await self._hash(environment, [f"{context}\0{plain}" for context, plain in items])
        return [Sealed(text, mark) for text, mark in zip(ciphertexts, marks, strict=True)]

    async def open(self, environment: str, items: Sequence[tuple[str, str]]) -> Sequence[str]:
        batch = [{"ciphertext": text, "associated_data": _b64(context)} for context, text in items]
        request = API.transit.decrypt_data(
            self._key(environment), batch_input=batch, mount_point=self._mount
        )
        plain = await self._batch("decrypt", request, len(items), "plaintext")
        try:
            return [base64.b64decode(text).decode() for text in plain]
        except ValueError as error:
            raise SecretUnreadable("the secret is not text") from error

    async def fingerprint(self, environment: str, text: str) -> str:
        try:
            (mark,) = await self._hash(environment, [text])
        except SecretUnreadable:
            # Vault makes a key when something is encrypted, and not for a digest.
            await self._encrypt(environment, [{"plaintext": ""}])
            (mark,) = await self._hash(environment, [text])
        return mark

    async def _encrypt(self, environment: str, batch: list[dict[str, str]]) -> list[str]:
        request = API.transit.encrypt_data(
            self._key(environment), batch_input=batch, mount_point=self._mount
        )
        return await self._batch("encrypt", request, len(batch), "ciphertext")

    async def _hash(self, environment: str, texts: Sequence[str]) -> list[str]:
        batch = [{"input": _b64(text)} for text in texts]
        request = API.hash_batch(self._mount, self._key(environment), batch)
        return await self._batch("hmac", request, len(batch), "hmac")

    def _key(self, environment: str) -> str:
        return f"{self._prefix}-{environment}"

    async def _batch(
        self, operation: str, request: VaultRequest, count: int, member: str
    ) -> list[str]:
        if not count:
            return []
        reply = await self._vault.ask(operation, request)
        results = reply.data.get("batch_results") or ()
        texts = [result[member] for result in results if member in result]
        if reply.status != 200 or len(texts) != count:
            raise SecretUnreadable(f"Vault transit could not {operation} (status {reply.status})")
        return texts


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
