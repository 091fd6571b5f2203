"""What can be wrong with an instance, or with what is asked of it."""

from typing import Self

from app.errors import Conflict, InDoubt, Invalid, NotFound, Unavailable
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.instances import Tag


class RegistryUnavailable(Unavailable):
    code = "registry_store_unavailable"


class NodesUnavailable(Unavailable):
    """ZooKeeper did not answer; what was asked of it may still happen, and may be asked again."""

    code = "registry_nodes_unavailable"


class Superseded(Conflict):
    """A later registration or claim of the instance was there first; nothing was changed."""

    code = "instance_superseded"

    def __init__(self, service: str, instance_id: str, newest: Tag) -> None:
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
    """The instance was registered anew; who asks speaks of a registration that is over."""

    code = "old_epoch"

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the instance is registered with epoch {epoch}", current_epoch=epoch)
        self.epoch = epoch


class TooManyInstances(Conflict):
    code = "too_many_instances"

    def __init__(self, service: str) -> None:
        super().__init__(
            f"{service} has as many registered instances as a service may have",
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
        super().__init__(f"{text[:80]!r} cannot name a service or an instance")


class KeyMissing(Invalid):
    code = "key_missing"

    def __init__(self) -> None:
        super().__init__("the strategy `hash` needs `key`: what shall stay with one instance")


class NoInstance(Unavailable):
    """Nobody can be sent anywhere; with `Retry-After`, as for anything that may come back."""

    code = "no_instance"

    def __init__(self, service: str) -> None:
        super().__init__(f"{service} has no instance to send anybody to", service_name=service)


class RegistryInDoubt(InDoubt):
    """The whole list cannot be told; a shorter one would be taken for the truth."""

    code = "registry_in_doubt"
