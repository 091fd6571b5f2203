"""Registration of this replica as an instance of the service `pilothouse`."""

import asyncio
from contextlib import suppress

import structlog

from app.errors import Conflict, NotFound, Unavailable
from app.registry.environments import Requester
from app.registry.service import RegistryService

SERVICE = "pilothouse"
TTL_SECONDS = 15
_BEAT_SECONDS = TTL_SECONDS / 3
_LEAVE_SECONDS = 1.0
_REQUESTER = Requester("pilothouse", "")
_log = structlog.get_logger(__name__)


class SelfRegistration:
    def __init__(
        self, registry: RegistryService, url: str, instance_id: str | None, version: str
    ) -> None:
        self._registry = registry
        self._body = {
            "service_name": SERVICE,
            "service_url": url,
            "ttl_seconds": TTL_SECONDS,
            "version": version,
            **({"instance_id": instance_id} if instance_id else {}),
        }
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Begin to deregister, so that no client is sent here any more."""
        self._leaving.set()

    async def run(self) -> None:
        """Register and send heartbeats until it is time to leave; raises Unavailable."""
        while not self._leaving.is_set():
            row = (await self._registry.register(self._body, _REQUESTER)).row
            _log.info("registered", service=SERVICE, instance=row.instance_id, epoch=row.epoch)
            try:
                await self._send_heartbeats(row.service, row.instance_id, row.epoch)
            finally:
                with suppress(TimeoutError, Unavailable, NotFound, Conflict):
                    async with asyncio.timeout(_LEAVE_SECONDS):
                        await self._registry.deregister(*row.key, row.epoch, _REQUESTER)
        await asyncio.Event().wait()  # a task that ends would be restarted

    async def _send_heartbeats(self, service: str, instance_id: str, epoch: int) -> None:
        """Send heartbeats until it is time to leave, or the registration is over."""
        while not self._leaving.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_BEAT_SECONDS):
                    await self._leaving.wait()
            with suppress(Unavailable):
                try:
                    await self._registry.record_heartbeat(service, instance_id, epoch)
                except (NotFound, Conflict):
                    return
