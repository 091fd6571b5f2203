"""A bounded memory of what was read."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from app.workers import Slices

Key = TypeVar("Key")
Value = TypeVar("Value")


class BoundedMemory(Generic[Key, Value]):
    """A least-recently-used cache, bounded by the bytes of the stored texts."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: Key, value: Value, size: int) -> None:
        _, replaced = self._entries.pop(key, (None, 0))
        self._entries[key] = (value, size)
        self._size += size - replaced
        while self._size > self._limit and self._entries:
            _, (_, dropped) = self._entries.popitem(last=False)
            self._size -= dropped

    async def keep(self, is_wanted: Callable[[Key, Value], bool]) -> None:
        """Drop every entry that is not wanted; others are served in between."""
        slices = Slices()
        for key in list(self._entries):
            entry = self._entries.get(key)
            if entry is not None and not is_wanted(key, entry[0]):
                del self._entries[key]
                self._size -= entry[1]
            await slices.rest()

    def clear(self) -> None:
        self._entries.clear()
        self._size = 0
