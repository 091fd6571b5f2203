"""What has to be in an environment, or must not be, before a flag or segment is written. Pure."""

from app.flags.cache import EnvironmentFlags
from app.flags.errors import FlagArchived, FlagExists, FlagNotFound, SegmentNotFound
from app.flags.model import Item, Kind


def require_present(environment: EnvironmentFlags, kind: Kind, name: str) -> Item:
    item = environment.live_item(kind, name)
    if item is None:
        refuse_archived(environment, kind, name)
        raise not_found(kind, name, environment)
    return item


def refuse_present(environment: EnvironmentFlags, kind: Kind, name: str) -> None:
    if environment.live_item(kind, name) is not None:
        raise FlagExists(kind, name, environment.name)
    refuse_archived(environment, kind, name)


def refuse_archived(environment: EnvironmentFlags, kind: Kind, name: str) -> None:
    if environment.archived_item(kind, name) is not None:
        raise FlagArchived(name, environment.name)


def not_found(
    kind: Kind, name: str, environment: EnvironmentFlags
) -> FlagNotFound | SegmentNotFound:
    error = FlagNotFound if kind == "flag" else SegmentNotFound
    return error(name, environment.name, environment.live_names(kind))
