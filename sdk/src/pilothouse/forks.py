"""Locks and loops in a forked process, where no other thread of the parent exists."""

import os
import threading
import weakref

_locks: "weakref.WeakSet[ForkLock]" = weakref.WeakSet()
_of_parents: list[object] = []


class ForkLock:
    """Holds a lock that is free in a forked process: its holder may not exist there.

    Take it as `with guard.lock:`.
    """

    __slots__ = ("__weakref__", "_is_reentrant", "lock")

    def __init__(self, *, is_reentrant: bool = False) -> None:
        self._is_reentrant = is_reentrant
        self.renew()
        _locks.add(self)

    def renew(self) -> None:
        # A held lock cannot be released by a thread that does not hold it.
        self.lock = threading.RLock() if self._is_reentrant else threading.Lock()


def keep_of_parent(*objects: object) -> None:
    """Keep copies of the loops and watchers of the parent process from being collected.

    They share file descriptors with it: a collected loop takes those of the parent out of their
    selector, and the parent waits for what never comes.
    """
    _of_parents.append(objects)


def _renew_locks() -> None:
    for each in list(_locks):
        each.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
