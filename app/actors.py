"""The stored form of actors: tokens with their ids, since several may have one name. Pure."""

from typing import Final

_TOKEN: Final = "token:"  # noqa: S105 - no secret
_MARK: Final = "#"  # not allowed in the name of a token


def stored_actor(name: str, token_id: str | None) -> str:
    """Return the actor in the log, the audit and documents: `token:NAME#ID`, or a name alone."""
    return name if token_id is None else f"{name}{_MARK}{token_id}"


def actor_name(stored: str) -> str:
    """Return the name of a stored actor."""
    return split_actor(stored)[0]


def split_actor(stored: str) -> tuple[str, str | None]:
    """Return the name of a stored actor and the id of its token.

    The id is None for people, for the service itself, and in rows of earlier releases.
    """
    if not stored.startswith(_TOKEN):
        return stored, None
    name, _, token_id = stored.partition(_MARK)
    return name, token_id or None
