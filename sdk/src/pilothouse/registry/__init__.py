"""The registry: register instances and discover others."""

from pilothouse.registry.asynchronous import AsyncRegistry
from pilothouse.registry.errors import NoInstance, NothingKnown
from pilothouse.registry.instances import Discovered, DiscoveredInstance
from pilothouse.registry.registration import AsyncRegistration
from pilothouse.registry.synchronous import Registration, Registry

__all__ = [
    "AsyncRegistration",
    "AsyncRegistry",
    "Discovered",
    "DiscoveredInstance",
    "NoInstance",
    "NothingKnown",
    "Registration",
    "Registry",
]
