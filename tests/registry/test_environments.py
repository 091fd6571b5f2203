"""Instances of an environment are changed by those who may write in it, and by nobody else."""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.access.errors import Denied
from app.access.model import SERVICE_RIGHTS, Caller, Grant, Principal
from app.errors import Conflict, NotFound
from app.registry.api.responses import InstanceFilter, discovered_items
from app.registry.environments import EnvironmentGuard, Requester
from app.registry.errors import BadInstance, InstanceNotFound, OldEpoch
from app.registry.instances.embedded import EmbeddedInstanceStore
from app.registry.model import InstanceRow, Registration, RegistrationResult
from app.registry.service import RegistryService
from app.registry.view import RegistryView
from tests.registry.bench import SERVICE, Store, embedded_store
from tests.registry.test_service import body, registry_of
from tests.trials import trials


def of(*environments: str) -> Requester:
    grant = Grant(SERVICE_RIGHTS, environments, (SERVICE,))
    return Requester("ada", "request-1", None, Caller(Principal("ada", (grant,)), "request-1"))


PRODUCTION, STAGING, EVERYWHERE = of("production"), of("staging"), of("*")


def stating(environment: str | None, **members: Any) -> Any:
    metadata = {} if environment is None else {"environment": environment}
    return body(**{"instance_id": "i-1", "metadata": metadata, **members})


async def test_who_may_not_write_there_changes_nothing(tmp_path: Path) -> None:
    async with embedded_store(tmp_path) as store, registry_of(store) as registry:
        row = (await registry.register(stating("production"), PRODUCTION)).row

        for environment in ("production", "staging", None):
            with pytest.raises(Denied):
                await registry.register(stating(environment), STAGING)
        for epoch in (None, row.epoch, row.epoch + 1):
            with pytest.raises(Denied):
                await registry.deregister(*row.key, epoch, STAGING)
            with pytest.raises(Denied):
                await registry.drain(*row.key, epoch, 0, STAGING)
            with pytest.raises(Denied):
                await registry.heartbeat(*row.key, epoch, STAGING)
        assert await store.rows.row(*row.key) == row

        assert (await registry.heartbeat(*row.key, None, PRODUCTION)).epoch == row.epoch
        with pytest.raises(OldEpoch):
            await registry.heartbeat(*row.key, row.epoch + 1, PRODUCTION)
        with pytest.raises(InstanceNotFound):
            await registry.heartbeat(SERVICE, "i-2", None, PRODUCTION)
        await registry.deregister(*row.key, row.epoch, PRODUCTION)


async def test_instances_that_state_none_are_open_to_all(tmp_path: Path) -> None:
    async with embedded_store(tmp_path) as store, registry_of(store) as registry:
        await registry.register(stating(None), PRODUCTION)
        row = (await registry.register(stating(None), STAGING)).row

        await registry.heartbeat(*row.key, row.epoch, PRODUCTION)
        await registry.drain(*row.key, None, 30, STAGING)
        await registry.deregister(*row.key, None, PRODUCTION)


@pytest.mark.parametrize("environment", ["", "a b", "*", "-a", "a..b", "x" * 64])
async def test_what_names_no_environment_is_refused(tmp_path: Path, environment: str) -> None:
    async with embedded_store(tmp_path) as store, registry_of(store) as registry:
        with pytest.raises(BadInstance) as refused:
            await registry.register(stating(environment), EVERYWHERE)

        assert refused.value.flaws[0]["pointer"] == "#/metadata/environment"


class Racing:
    """Rows that somebody else has replaced each time before they are asked for anything."""

    def __init__(
        self, rows: EmbeddedInstanceStore, replaced: Callable[[], Any], times: int
    ) -> None:
        self._rows, self._replaced, self._times = rows, replaced, times

    async def row(self, service: str, instance_id: str) -> InstanceRow | None:
        return await self._rows.row(service, instance_id)

    async def register(self, registration: Registration) -> RegistrationResult:
        if self._times:
            self._times -= 1
            await self._replaced()
        return await self._rows.register(registration)


async def test_what_was_replaced_meanwhile_is_tested_again(tmp_path: Path) -> None:
    async with embedded_store(tmp_path) as store, registry_of(store) as registry:

        def registration_in(environment: str) -> Registration:
            text = f'{{"metadata": {{"environment": "{environment}"}}}}'
            return Registration(SERVICE, "i-1", text, "heartbeat", 30, "here", "ada", "request-1")

        async def by(environment: str) -> RegistrationResult:
            return await store.rows.register(registration_in(environment))

        await registry.register(stating("staging"), STAGING)
        racing: Any = Racing(store.rows, lambda: by("staging"), 3)
        done = await EnvironmentGuard(racing, RegistryView()).register(
            registration_in("staging"), STAGING
        )
        assert done.row.epoch == 5

        racing = Racing(store.rows, lambda: by("production"), 1)
        with pytest.raises(Denied):
            await EnvironmentGuard(racing, RegistryView()).register(
                registration_in("staging"), STAGING
            )
        row = await store.rows.row(SERVICE, "i-1")
        assert row is not None
        assert EnvironmentGuard(store.rows, RegistryView()).environment(row) == "production"


ENVIRONMENTS = st.sampled_from([None, "staging", "production", "default"])
IDS = st.sampled_from(["i-1", "i-2", "i-3"])
EPOCHS = st.sampled_from([None, 1, 2, 3])
CALLS = st.one_of(
    st.tuples(st.just("register"), IDS, ENVIRONMENTS),
    st.tuples(st.sampled_from(["deregister", "drain", "heartbeat"]), IDS, EPOCHS),
    st.tuples(st.just("check"), IDS, st.none()),
)


async def call(registry: RegistryService, request: tuple[str, str, Any], who: Requester) -> None:
    action, id_, detail = request
    match action:
        case "register":
            await registry.register(stating(detail, instance_id=id_), who)
        case "deregister":
            await registry.deregister(SERVICE, id_, detail, who)
        case "drain":
            await registry.drain(SERVICE, id_, detail, 0, who)
        case "heartbeat":
            await registry.heartbeat(SERVICE, id_, detail, who)
        case _:
            await registry.check(SERVICE, who)


async def of_production(store: Store, registry: RegistryService) -> object:
    await registry.follower.refresh()
    rows = await store.rows.rows_after(0, 1000)
    request = InstanceFilter(environment="production")
    return (
        discovered_items(registry.view.service(SERVICE), request)[0],
        [
            (row.key, row.epoch, row.version, row.health, row.draining_until)
            for row in rows
            if row.state == "registered" and registry.guard.environment(row) == "production"
        ],
    )


@settings(max_examples=trials(50))
@given(st.lists(st.tuples(st.booleans(), st.booleans(), CALLS), max_size=20))
def test_a_token_of_staging_never_changes_what_production_answers(
    calls: Sequence[tuple[bool, bool, tuple[str, str, Any]]],
) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with (
                embedded_store(Path(folder)) as store,
                registry_of(store) as one,
                registry_of(store) as other,  # which has not followed what `one` did
            ):
                for is_foe, is_elsewhere, request in calls:
                    registry = other if is_elsewhere else one
                    before = await of_production(store, one) if is_foe else None
                    with suppress(Denied, NotFound, Conflict):
                        await call(registry, request, STAGING if is_foe else PRODUCTION)
                    if is_foe:
                        assert await of_production(store, one) == before

    asyncio.run(run())
