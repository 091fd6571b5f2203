"""Programs change flags through the client, and see what they have changed."""

import pytest

from pilothouse import AsyncPilothouse, Pilothouse
from pilothouse.errors import Conflict, NotFound, PreconditionFailed
from tests.servers.process import PATIENCE_SECONDS, wait_until
from tests.servers.service import ServiceProcess

FLAGS = "/api/v1/feature-flags"


def create(service: ServiceProcess, environment: str, name: str) -> None:
    body = {"name": name, "environment": environment, "rollout_percentage": 0}
    assert service.request("POST", FLAGS, body).status == 201


def test_targets_are_changed_and_seen(service: ServiceProcess) -> None:
    create(service, "admin-sync", "beta")
    with Pilothouse(service.url, "shop", "admin-sync") as client:
        added = client.flag_admin.append_targets("beta", ["ann", 101], comment="testers")
        dry = client.flag_admin.replace_targets("beta", ["bob"], dry_run=True)
        wait_until(
            lambda: client.flags.is_on("beta", user_id=101), "the change is heard", PATIENCE_SECONDS
        )
        removed = client.flag_admin.remove_targets("beta", (u for u in ["ann"]), if_version=2)
        with pytest.raises(PreconditionFailed):
            client.flag_admin.replace_targets("beta", [], if_version=2)

    assert (added.version, added.count, added.added, added.removed) == (2, 2, 2, 0)
    assert (dry.dry_run, dry.count, dry.added, dry.removed) == (True, 1, 1, 2)
    assert (removed.version, removed.count, removed.removed) == (3, 1, 1)


async def test_a_flag_is_archived_restored_rolled_back_and_copied(service: ServiceProcess) -> None:
    create(service, "admin-async", "old")
    async with AsyncPilothouse(service.url, "shop", "admin-async") as client:
        admin = client.flag_admin
        await admin.append_targets("old", ["ann"])
        archived = await admin.archive("old", comment="over")
        with pytest.raises(Conflict) as refused:
            await admin.append_targets("old", ["bob"])
        restored = await admin.restore("old", if_version=3)
        killed = await admin.kill("old", "errors")
        rolled = await admin.rollback("old", 1)
        copied = await admin.copy("old", "admin-copy")
        exported = await admin.export()
        imported = await admin.import_flags(exported, environment="admin-import")
        with pytest.raises(NotFound):
            await admin.archive("ghost")
        again = await admin.export(environment="admin-import")

    assert refused.value.code == "flag_archived"
    assert (archived["archived"], restored["archived"]) == (True, False)
    assert restored["target_users"] == ["ann"]
    assert (killed["version"], killed["enabled"]) == (5, False)
    assert (rolled["version"], rolled["target_users"]) == (6, [])
    assert (copied["status"], copied["missing"]) == ("created", [])
    assert [item["status"] for item in imported["items"]] == ["created"]
    assert again == exported.replace(b"admin-async", b"admin-import")
