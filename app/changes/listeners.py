"""What is called while a replica follows the log: before a change is applied, and after."""

from collections.abc import Awaitable, Callable, Iterable

from app.changes.model import Change, Entity, Pointer

Prepare = Callable[[frozenset[str]], Awaitable[None]]


class Listeners:
    def __init__(self) -> None:
        self._before_apply: list[Prepare] = []
        self._on_change: list[Callable[[Change], None]] = []
        self._on_pointer: list[Callable[[Pointer], None]] = []
        self._on_log_replaced: list[Callable[[], None]] = []

    def before_apply(self, prepare: Prepare) -> None:
        """Await `prepare` with the kinds of what changed, before any answer claims its revision."""
        self._before_apply.append(prepare)

    def on_change(self, callback: Callable[[Change], None]) -> None:
        """Call `callback` with every change, once and in order, after its pointer has moved."""
        self._on_change.append(callback)

    def on_pointer(self, callback: Callable[[Pointer], None]) -> None:
        """Call `callback` with every pointer that moves, also ahead of its change."""
        self._on_pointer.append(callback)

    def on_log_replaced(self, forget: Callable[[], None]) -> None:
        """Call `forget` if the adopted snapshot proves to be of another log."""
        self._on_log_replaced.append(forget)

    async def prepare(self, changed: Iterable[Entity], *, is_first: bool) -> None:
        """Await all that prepare; the `is_first` time also if nothing has changed."""
        kinds = frozenset(entity.kind for entity in changed)
        if kinds or is_first:
            for prepare in self._before_apply:
                await prepare(kinds)

    def report_change(self, change: Change) -> None:
        for callback in self._on_change:
            callback(change)

    def report_pointer(self, pointer: Pointer) -> None:
        for callback in self._on_pointer:
            callback(pointer)

    def report_log_replaced(self) -> None:
        for forget in self._on_log_replaced:
            forget()
