"""Errors of the service registry."""

from typing import Self

from app.errors import Conflict, InDoubt, Invalid, NotFound, Unavailable
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.instances import FencingToken
from pilothouse_core.names import NAME_GRAMMAR


class RegistryUnavailable(Unavailable):
    code = "registry_store_unavailable"


class NodesUnavailable(Unavailable):
    """ZooKeeper did not answer; the operation may still happen and can be repeated."""

    code = "registry_nodes_unavailable"


class Superseded(Conflict):
    """A later registration or claim of the instance exists; nothing was changed."""

    code = "instance_superseded"

    def __init__(self, service: str, instance_id: str, newest: FencingToken) -> None:
        super().__init__(
            f"{service} has a later registration or owner of {instance_id!r}",
            service_name=service,
            instance_id=instance_id,
        )
        self.newest = newest


class InstanceNotFound(NotFound):
    code = "instance_not_found"

    def __init__(self, service: str, instance_id: str) -> None:
        super().__init__(
            f"{service} has no registered instance {instance_id!r}",
            service_name=service,
            instance_id=instance_id,
        )


class OldEpoch(Conflict):
    """The instance was registered again; the request names a registration that has ended."""

    code = "old_epoch"

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the instance is registered with epoch {epoch}", current_epoch=epoch)
        self.epoch = epoch


class TooManyInstances(Conflict):
    code = "too_many_instances"

    def __init__(self, service: str) -> None:
        super().__init__(
            f"{service} has the maximum number of registered instances",
            service_name=service,
        )


class BadInstance(Invalid):
    """A registration breaks a rule; `flaws` says where."""

    code = "bad_instance"

    def __init__(self, pointer: str, detail: str, code: str) -> None:
        super().__init__(f"{pointer or 'the registration'} {detail}")
        self.flaws = ({"pointer": f"#{pointer}", "detail": detail, "code": code},)

    @classmethod
    def of(cls, error: DefinitionError) -> Self:
        return cls(error.pointer, error.detail, error.code)


class BadServiceName(Invalid):
    code = "bad_service_name"

    def __init__(self, text: str) -> None:
        super().__init__(f"{text[:80]!r} is not a valid service name: {NAME_GRAMMAR}")


class BadInstanceEnvironment(Invalid):
    """The requested environment is not a valid environment name."""

    code = "bad_instance_environment"

    def __init__(self, text: str) -> None:
        super().__init__(f"{text[:80]!r} is not a valid environment name: {NAME_GRAMMAR}")


class KeyMissing(Invalid):
    code = "key_missing"

    def __init__(self) -> None:
        super().__init__("the strategy `hash` requires `key`: equal keys go to the same instance")


class NoInstance(Unavailable):
    """No instance can be used; the response has `Retry-After`, since one may return."""

    code = "no_instance"

    def __init__(self, service: str, environment: str | None = None) -> None:
        of = "" if environment is None else f" in the environment {environment}"
        super().__init__(f"{service} has no usable instance{of}", service_name=service)


class RegistryInDoubt(InDoubt):
    """The list may be incomplete, and an incomplete list is worse than an error here."""

    code = "registry_in_doubt"
