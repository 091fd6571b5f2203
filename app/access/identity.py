"""Which principals are related: a token and those it was made with, and makes. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

_TOKEN: Final = "token:"  # noqa: S105 - no secret
# How many makers are followed at the most; no chain of people is that long.
_LONGEST_CHAIN: Final = 1000


class Maker(NamedTuple):
    """Who makes a token: the shown name, and the identity, None where it is not known."""

    name: str
    identity: str | None


# An operator with access to the store itself, who has no maker.
COMMAND: Final = Maker("command", "command")


def token_identity(token_id: str) -> str:
    return f"{_TOKEN}{token_id}"


@dataclass(frozen=True, slots=True)
class Ancestry:
    """The identities from one up to the first of its makers; `is_known`: none is missing."""

    identities: frozenset[str]
    is_known: bool


@dataclass(frozen=True, slots=True)
class Lineage:
    """The chains of makers of tokens.

    `maker_of` returns the identity of the maker of the token with an id, None if it is not known.
    The tokens of `roots` (the one of the settings) have no maker.
    """

    maker_of: Callable[[str], str | None]
    roots: frozenset[str] = frozenset()

    def relations(self, identities: Iterable[str | None]) -> "Relations":
        """Return all principals related to one of these."""
        return Relations(self, tuple(dict.fromkeys(identities)))

    def ancestry(self, identity: str) -> Ancestry:
        """Return an identity with those from whose tokens its own was made."""
        chain = {identity}
        while identity.startswith(_TOKEN):
            token_id = identity.removeprefix(_TOKEN)
            if token_id in self.roots:
                break
            maker = self.maker_of(token_id)
            if maker is None or len(chain) > _LONGEST_CHAIN:
                return Ancestry(frozenset(chain), is_known=False)
            if maker in chain:
                break
            chain.add(maker)
            identity = maker
        return Ancestry(frozenset(chain), is_known=True)


@dataclass(frozen=True, slots=True)
class Relations:
    """All principals related to some identities: each of them, and their ancestors and descendants.

    Two tokens of one maker are not related. An identity whose chain is not known to its beginning
    may descend from any principal: it is related to all of them, as is an unknown one (None).
    """

    lineage: Lineage
    identities: tuple[str | None, ...]

    def includes(self, identity: str | None) -> bool:
        """Tell whether this identity is related to one of them."""
        return any(self._are_related(identity, other) for other in self.identities)

    def _are_related(self, one: str | None, other: str | None) -> bool:
        if one is None or other is None:
            return True
        mine, theirs = self.lineage.ancestry(one), self.lineage.ancestry(other)
        if not mine.is_known or not theirs.is_known:
            return True
        return one in theirs.identities or other in mine.identities
