"""Commands that run until a stop signal, and then clean up."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_SIGNALS = [
    number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None
]
_KILLED_BY = 128  # what shells add to the number of the signal


class Ending:
    """Whether SIGTERM or SIGHUP has arrived; `exit_code` is then set.

    Such a signal ends a pause or an interruptible block with KeyboardInterrupt, as Ctrl-C does.
    It is raised nowhere else: at any other line it would leave something half done.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._interrupt: Callable[[], None] | None = None
        self._is_pausing = False

    @contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Call `interrupt` when a signal arrives inside the block."""
        self._interrupt = interrupt
        try:
            yield
        finally:
            self._interrupt = None

    def pause(self, seconds: float) -> None:
        """Sleep. Raises KeyboardInterrupt when a signal arrives, or has arrived before."""
        self._is_pausing = True
        try:
            if self.exit_code is not None:
                raise KeyboardInterrupt
            time.sleep(seconds)
        finally:
            self._is_pausing = False

    def note(self, number: int, _: FrameType | None) -> None:
        """Handle the signal."""
        self.exit_code = _KILLED_BY + number
        if self._is_pausing:
            self._is_pausing = False
            raise KeyboardInterrupt
        if self._interrupt is not None:
            self._interrupt()


@contextmanager
def noticing_signals() -> Iterator[Ending]:
    """Handle stop signals inside the block; restores the previous handlers."""
    ending = Ending()
    before: dict[int, Any] = {}
    with suppress(ValueError):  # not the main thread, which alone receives signals
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as with nohup
                before[number] = signal.signal(number, ending.note)
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
