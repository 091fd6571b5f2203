"""The API of Vault as hvac knows it: paths and bodies of requests, which VaultClient sends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode

from hvac.adapters import Adapter
from hvac.api.auth_methods.approle import AppRole
from hvac.api.auth_methods.token import Token
from hvac.api.secrets_engines.kv_v2 import KvV2
from hvac.api.secrets_engines.transit import Transit


@dataclass(frozen=True, slots=True)
class VaultRequest:
    """One request, not sent yet. `path` follows `/v1/` and is neither quoted nor checked."""

    method: str
    path: str
    body: Mapping[str, Any] | None = field(default=None, repr=False)


class _Composer(Adapter):  # type: ignore[misc]  # hvac has no types
    """Return the requests that hvac's classes compose, instead of sending them.

    hvac's own adapters follow redirects, normalise paths and lose headers and status codes.
    """

    def __init__(self) -> None:
        # Not hvac's: that would open a session of requests.
        self.token = None

    def get_login_token(self, response: Any) -> str:
        raise NotImplementedError("VaultClient reads the token of a login")

    def login(self, url: str, *_: Any, json: Mapping[str, Any], **__: Any) -> VaultRequest:
        return self.request("post", url, json=json)

    def request(
        self,
        method: str,
        url: str,
        *,
        json: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> VaultRequest:
        """Compose one request; a list is a GET, which every proxy lets through."""
        path = unquote(url.removeprefix("/v1/"))
        if method == "list":
            return VaultRequest("GET", f"{path}/?list=true")
        query = f"?{urlencode(params)}" if params else ""
        return VaultRequest(method.upper(), path + query, json)


class VaultApi:
    """hvac's classes for what Pilothouse uses; every method returns a VaultRequest."""

    def __init__(self) -> None:
        self._adapter = _Composer()
        self.kv = KvV2(self._adapter)
        self.transit = Transit(self._adapter)
        self.tokens = Token(self._adapter)
        self.approle = AppRole(self._adapter)

    def read_mount(self, mount: str) -> VaultRequest:
        """Compose the question for a mount that needs no policy; hvac has no method for it."""
        return self._adapter.request("get", f"/v1/sys/internal/ui/mounts/{mount}")

    def hash_batch(self, mount: str, key: str, items: Sequence[Mapping[str, str]]) -> VaultRequest:
        """Compose an HMAC of many inputs; hvac's `generate_hmac` takes one."""
        return self._adapter.request(
            "post", f"/v1/{mount}/hmac/{key}", json={"batch_input": list(items)}
        )


API = VaultApi()
