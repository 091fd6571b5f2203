"""Calls of callbacks, and warnings that are logged once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable

_MOST_WARNINGS = 1000  # their subjects may come from the program's own callers
_awaited: set["asyncio.Future[None]"] = set()  # a loop alone does not keep its tasks alive
_log = logging.getLogger("pilothouse")


class Listeners:
    """The callbacks for changes of one thing; `of` names it in the log."""

    __slots__ = ("_callbacks", "_of")

    def __init__(self, of: str) -> None:
        self._of = of
        self._callbacks: dict[object, Callable[..., object]] = {}

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def add(self, callback: Callable[..., object]) -> Callable[[], None]:
        """Return a function that removes the callback; it may be called twice."""
        token = object()
        self._callbacks[token] = callback
        return lambda: self._callbacks.pop(token, None) and None

    def call(self, *arguments: object) -> None:
        """Call each callback. The exceptions of one are logged, and affect no other."""
        for callback in list(self._callbacks.values()):
            call_back(self._of, callback, *arguments)


class WarnOnce:
    """Logs a warning once for each subject, until it is cleared."""

    __slots__ = ("_subjects",)

    def __init__(self) -> None:
        self._subjects: set[object] = set()

    def warn(self, subject: object, message: str, *facts: object, trace: bool = False) -> None:
        if subject not in self._subjects and len(self._subjects) < _MOST_WARNINGS:
            self._subjects.add(subject)
            _log.warning(message, *facts, exc_info=trace)

    def clear(self) -> None:
        self._subjects.clear()


def call_back(of: str, callback: Callable[..., object], *arguments: object) -> None:
    """Call a callback, which may be a coroutine function on an event loop; `of` is for the log."""
    try:
        result = callback(*arguments)
        if isawaitable(result):
            task = asyncio.ensure_future(_log_failure(of, result))
            _awaited.add(task)
            task.add_done_callback(_awaited.discard)
    except Exception:  # noqa: BLE001 - it is the caller's code
        _log.exception("a callback failed on a change of the %s", of)


async def _log_failure(of: str, result: Awaitable[object]) -> None:
    try:
        await result
    except Exception:  # noqa: BLE001 - it is the caller's code
        _log.exception("a callback failed on a change of the %s", of)
