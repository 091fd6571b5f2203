"""A service that requires tokens, called by its first administrator."""

from typing import Any

from tests.e2e.client import Headers, Service
from tests.servers.answer import Answer

ADMIN = "the-first-token-of-an-administrator"
REQUIRED = {
    "VAULT_MAX_VERSIONS": "60",
    "SERVICE_HEALTH_CHECK_INTERVAL": "0.2",
    "PILOTHOUSE_ACCESS": "required",
    "PILOTHOUSE_ADMIN_TOKEN": ADMIN,
    "PILOTHOUSE_TOKEN_PEPPER": "pepper-of-this-installation-0123",
}


class Administered(Service):
    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Headers | None = None,
        timeout: float = 10,
        **query: Any,
    ) -> Answer:
        shown = {"Authorization": f"Bearer {ADMIN}", **(headers or {})}
        return super().call(method, path, body, headers=shown, timeout=timeout, **query)
