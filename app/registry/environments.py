"""Environments of instances: a caller changes only instances of those it may write in.

An instance states its environment in its metadata, and keeps it as long as its epoch. So the epoch
whose environment was checked is passed to the store: a later registration is not changed.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from app.access.model import Caller, Right
from app.registry.errors import InstanceNotFound, OldEpoch
from app.registry.instances.port import InstanceStore
from app.registry.model import InstanceRow, Registration, RegistrationResult
from app.registry.view import RegistryView
from pilothouse_core.instances import environment_in

# An attempt fails only if the instance was registered again in the meantime.
_ATTEMPTS: Final = 10
_EVERY: Final = "*"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Requester:
    """The caller, for the log of changes, with its rights to change instances."""

    actor: str
    request_id: str
    source: str | None = None  # address of the caller
    caller: Caller | None = None  # None: this service itself, with all rights

    def may_write(self, service: str, environment: str | None) -> bool:
        """Whether it may change instances of an environment; None: those that state none."""
        return self.caller is None or self.caller.may(Right.REGISTER, environment or "", service)

    def is_unrestricted(self, service: str) -> bool:
        """Whether it may change the instances of every environment."""
        return self.may_write(service, _EVERY)

    def demand(self, service: str, environment: str | None) -> None:
        """Raise Denied unless it may change instances of an environment."""
        if self.caller is not None:
            self.caller.demand(Right.REGISTER, environment or "", service)


@dataclass(frozen=True, slots=True)
class EnvironmentGuard:
    rows: InstanceStore
    view: RegistryView

    async def register(
        self, registration: Registration, requester: Requester
    ) -> RegistrationResult:
        """Register; raises Denied if that would replace an instance of another environment.

        Raises the errors of the store, and OldEpoch if others keep registering the same id.
        """
        service, instance_id = registration.service, registration.instance_id
        if requester.is_unrestricted(service):
            return await self.rows.register(registration)
        for attempt in range(_ATTEMPTS):
            row = await self._known_row(service, instance_id, requester, is_first=attempt == 0)
            if row is not None:
                requester.demand(service, self.environment(row))
            try:
                guarded = replace(registration, replaces=0 if row is None else row.epoch)
                return await self.rows.register(guarded)
            except OldEpoch as error:
                newest = error
        raise newest

    async def change(
        self,
        service: str,
        instance_id: str,
        epoch: int | None,
        requester: Requester,
        change: Callable[[int | None], Awaitable[T]],
    ) -> T:
        """Call `change` with the epoch that it may concern; None: whichever there is.

        Raises Denied if the instance is of another environment, InstanceNotFound and OldEpoch.
        """
        if requester.is_unrestricted(service):
            return await change(epoch)
        for attempt in range(_ATTEMPTS):
            row = await self._known_row(service, instance_id, requester, is_first=attempt == 0)
            if row is None or (attempt == 0 and epoch not in {None, row.epoch}):
                row = await self._registered_row(service, instance_id)
            if row is None:
                raise InstanceNotFound(service, instance_id)
            requester.demand(service, self.environment(row))
            if epoch not in {None, row.epoch}:
                raise OldEpoch(row.epoch)
            try:
                return await change(row.epoch)
            except OldEpoch as error:
                newest = error
        raise newest

    def environment(self, row: InstanceRow) -> str | None:
        """Return the environment of a row, even if this release cannot read the rest."""
        instance = self.view.instance(row)
        if instance is not None:
            return environment_in(instance.metadata)
        metadata = json.loads(row.definition).get("metadata")
        return environment_in(metadata) if isinstance(metadata, dict) else None

    async def _known_row(
        self, service: str, instance_id: str, requester: Requester, *, is_first: bool
    ) -> InstanceRow | None:
        """Return the registered row, at first from the view if the caller may change it."""
        if is_first:
            known = self.view.row(service, instance_id)
            if known is None or known.state != "registered":
                return None
            if requester.may_write(service, self.environment(known)):
                return known
        return await self._registered_row(service, instance_id)

    async def _registered_row(self, service: str, instance_id: str) -> InstanceRow | None:
        row = await self.rows.row(service, instance_id)
        return row if row is not None and row.state == "registered" else None
