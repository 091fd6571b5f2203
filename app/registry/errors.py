"""What can be wrong with an instance, or with what is asked of it."""

from app.errors import Conflict, NotFound, Unavailable
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
