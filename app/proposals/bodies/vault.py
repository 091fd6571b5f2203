"""What proposals set, in Vault KV v2 below `{prefix}/proposals`.

A text is emptied by writing another version over it: Vault keeps one version of each, and no right
to delete is needed.
"""

import json
from collections.abc import Sequence
from contextlib import suppress

from app.configs.errors import StoreUnavailable, WriteUnanswered
from app.configs.store.vault_api import API, VaultRequest
from app.configs.store.vault_client import Reply, VaultClient
from app.proposals.bodies.port import MAX_BODY_BYTES
from app.proposals.errors import BodyMissing, BodyTaken, BodyTooLarge

_FOLDER = "proposals"


class VaultProposalBodies:
    def __init__(self, vault: VaultClient, *, mount: str, prefix: str) -> None:
        self._vault = vault
        self._mount = mount
        self._folder = f"{prefix}/{_FOLDER}"

    async def write(self, name: str, text: str) -> None:
        size = len(json.dumps(text, ensure_ascii=False).encode()) - len('""')
        if size > MAX_BODY_BYTES:
            raise BodyTooLarge(size, MAX_BODY_BYTES)
        request = API.kv.update_metadata(
            self._path(name), max_versions=1, cas_required=True, mount_point=self._mount
        )
        _require(await self._vault.ask("create", request), 204)
        reply = await self._put(name, {"document": text}, base=0)
        if reply.status == 400 and "check-and-set" in reply.errors:  # noqa: PLR2004 - HTTP
            with suppress(BodyMissing):  # it was emptied
                if await self.read(name) == text:
                    return  # an earlier answer was lost
            raise BodyTaken(name)
        _require(reply, 200)

    async def read(self, name: str) -> str:
        reply = await self._read(name)
        text = (reply.data.get("data") or {}).get("document")
        if not isinstance(text, str):
            raise BodyMissing(name)
        return text

    async def empty(self, name: str) -> None:
        reply = await self._read(name)
        if "document" not in (reply.data.get("data") or {}):
            return
        version = int(reply.data["metadata"]["version"])
        _require(await self._put(name, {}, base=version), 200)

    async def names(self) -> Sequence[str]:
        reply = await self._vault.read("list", API.kv.list_secrets(self._folder, self._mount))
        if reply.status == 404:  # noqa: PLR2004 - HTTP
            return []
        _require(reply, 200)
        return sorted(str(name) for name in reply.data["keys"])

    async def _read(self, name: str) -> Reply:
        request = API.kv.read_secret_version(
            self._path(name), None, self._mount, raise_on_deleted_version=False
        )
        reply = await self._vault.read("read", request)
        if reply.status == 404:  # noqa: PLR2004 - HTTP
            raise BodyMissing(name)
        _require(reply, 200)
        return reply

    async def _put(self, name: str, data: dict[str, str], *, base: int) -> Reply:
        request: VaultRequest = API.kv.create_or_update_secret(
            self._path(name), data, cas=base, mount_point=self._mount
        )
        try:
            return await self._vault.call("write", request)
        except WriteUnanswered as error:
            raise StoreUnavailable("Vault did not answer in time") from error

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"


def _require(reply: Reply, status: int) -> None:
    if reply.status != status:
        raise StoreUnavailable(f"Vault answered {reply.status}")
