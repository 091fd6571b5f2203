"""Which instances take part in a release, by the public hash of flags.

An instance is in the arm `candidate` if its bucket, with the release's id as the salt, lies below
the share: so a growing share only adds instances, and one that restarts under its id stays.
"""

from collections.abc import Collection
from typing import Final, Literal

from pilothouse_core.bucketing import HASHES

Arm = Literal["candidate", "stable"]
HASH: Final = HASHES["murmur3-1"]
TOTAL: Final = HASH.total or 0  # buckets


def bucket_of(release: str, instance: str) -> int:
    """Return the bucket of an instance in a release, from 0 to `TOTAL` - 1."""
    return HASH.bind(release, TOTAL)(instance)


def arm_of(release: str, instance: str, share: int) -> Arm:
    """Return the arm of an instance where the candidate has `share` buckets."""
    return "candidate" if bucket_of(release, instance) < share else "stable"


def pick_members(
    release: str, members: Collection[str], registered: Collection[str], count: int
) -> tuple[str, ...]:
    """Return the members of a release that is given to `count` registered instances.

    A member stays as long as it is registered; new ones are the lowest by their bucket.
    """
    staying = sorted(set(members) & set(registered))
    free = sorted(set(registered) - set(staying), key=lambda each: (bucket_of(release, each), each))
    return tuple(sorted([*staying, *free[: max(0, count - len(staying))]]))
