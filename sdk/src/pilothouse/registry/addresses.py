"""What requests to `service://NAME/path` have in common, whichever library sends them. No I/O."""

from pilothouse.errors import PilothouseError
from pilothouse.registry.instances import DiscoveredInstance

SCHEME = "service"
ATTEMPTS = 3
# RFC 9110, section 9.2.2: methods that may be repeated.
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_WEB = ("http", "https")


class NotAWebService(PilothouseError):
    """The instance that was chosen does not speak HTTP."""

    code = "not_a_web_service"


def target(instance: DiscoveredInstance, path: str) -> str:
    """Return the URL of a path, with its query, at an instance; raises NotAWebService."""
    if instance.scheme not in _WEB:
        raise NotAWebService(f"{instance.service_name} is at {instance.scheme}://, not at http")
    base = instance.url.rstrip("/")
    return base + (path if path.startswith("/") else f"/{path}")


def may_go_on(method: str, failures: int, attempts: int) -> bool:
    """Return whether a request that reached no instance may be sent to another one."""
    return method.upper() in IDEMPOTENT and failures < attempts
