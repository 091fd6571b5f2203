"""Visibility of changes to callers."""

from typing import Final

from app.access.model import Caller, Right
from app.changes.model import Entity

KINDS: Final = (
    "config",
    "flag",
    "segment",
    "instance",
    "schema",
    "template",
    "policy",
    "proposal",
    "webhook",
    "release",
)
# `violation` is on the stream only: it is no change of the log.
STREAM_KINDS: Final = (*KINDS, "violation")
TOKEN: Final = "token"  # noqa: S105 - no secret
_RIGHTS: Final = {
    "config": Right.READ_CONFIGS,
    "flag": Right.READ_FLAGS,
    "segment": Right.READ_FLAGS,
    "instance": Right.DISCOVER,
    "schema": Right.READ_CONFIGS,
    "template": Right.READ_CONFIGS,
    "webhook": Right.WRITE_WEBHOOKS,
    "policy": Right.READ_CONFIGS,
    "proposal": Right.READ_CONFIGS,
    "release": Right.READ_CONFIGS,
}


def may_see(caller: Caller, entity: Entity) -> bool:
    """Tell whether a caller may know that this was changed."""
    match entity.kind:
        case "config" | "release" if not entity.name.startswith("*/"):
            service = entity.name.partition("/")[0]
            return caller.may(Right.READ_CONFIGS, entity.environment, service)
        case "proposal":
            # `*` where it is about several environments or services, or about flags.
            service = entity.name.partition("/")[0]
            return caller.may(Right.READ_CONFIGS, entity.environment, service) and caller.may(
                Right.READ_FLAGS, entity.environment
            )
        case "flag" | "segment" | "release":  # a release of a flag
            return caller.may(Right.READ_FLAGS, entity.environment)
        case "instance":
            return caller.may(Right.DISCOVER)
        case "schema" | "template" | "policy" | "webhook":
            return caller.has_right_anywhere(_RIGHTS[entity.kind])
        case _:
            return caller.may(Right.MANAGE_TOKENS)


def may_see_any(
    caller: Caller, environment: str | None, kind: str | None, name: str | None
) -> bool:
    """Tell whether a caller could be shown anything of what is asked for; None is everything.

    If not, nothing is read: the time that takes would reveal what exists.
    """
    kinds = (*KINDS, TOKEN) if kind is None else (kind,)
    if environment is not None and name is not None:
        return any(may_see(caller, Entity(each, environment, name, "")) for each in kinds)
    return any(caller.has_right_anywhere(_RIGHTS.get(each, Right.MANAGE_TOKENS)) for each in kinds)


def kinds_heard(
    caller: Caller,
    environment: str | None,
    service_name: str | None,
    stated_kinds: frozenset[str] | None,
) -> frozenset[str]:
    """Return the kinds of changes that a caller receives there; None selects everything.

    Raises Denied if a requested kind is not allowed, or no kind is left.
    """
    # Only the pattern `*` means the name `*`: selecting everything needs a right to it.
    where, whose = environment or "*", service_name or "*"
    needed: dict[str, tuple[Right, str, str]] = {
        "config": (Right.READ_CONFIGS, where, whose),
        # Not to evaluate, which a browser may: these events name who has changed a flag.
        "flag": (Right.READ_FLAGS, where, ""),
        "segment": (Right.READ_FLAGS, where, ""),
        "instance": (Right.DISCOVER, "", ""),
        "schema": (Right.READ_CONFIGS, where, whose),
        "template": (Right.READ_CONFIGS, where, whose),
        "webhook": (Right.WRITE_WEBHOOKS, where, whose),
        "policy": (Right.READ_CONFIGS, where, whose),
        "proposal": (Right.READ_CONFIGS, where, whose),
        "release": (Right.READ_CONFIGS, where, whose),
        "violation": (Right.READ_CONFIGS, where, whose),
    }
    for kind in stated_kinds or ():
        caller.demand(*needed[kind])
    heard = stated_kinds or frozenset(kind for kind in STREAM_KINDS if caller.may(*needed[kind]))
    if not heard:
        caller.demand(*needed["config"])
    return heard
