"""A program of tests/interop: asked and heard as JSON lines, each with a deadline."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Condition, Thread
from typing import Any, Self

from tests.servers.process import PATIENCE_SECONDS

INTEROP = Path(__file__).parents[1] / "interop"
Event = Mapping[str, Any]


class ProgramFailed(Exception):
    """A program ended, said nothing in time, or answered with an error."""


class Program:
    """Runs until closed; its input closes with this run at the latest, and then it ends."""

    def __init__(self, argv: Sequence[str | Path]) -> None:
        self._child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._said = Condition()
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._events: list[Event] = []
        self._asked = 0
        self._ended = False
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            said = json.loads(line)
            with self._said:
                if "id" in said:
                    self._answers[said["id"]] = said
                else:
                    self._events.append(said)
                self._said.notify_all()
        with self._said:
            self._ended = True
            self._said.notify_all()

    def ask(self, question: str, /, *, within: float = PATIENCE_SECONDS, **facts: Any) -> Any:
        assert self._child.stdin is not None
        self._asked += 1
        number = self._asked
        self._child.stdin.write(json.dumps({"id": number, "ask": question, **facts}) + "\n")
        self._child.stdin.flush()
        self._wait(lambda: number in self._answers, f"answered {question!r}", within)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise ProgramFailed(f"{question}: {answer['error']}")
        return answer["answer"]

    def until(
        self, holds: Callable[[Event], bool], *, within: float = PATIENCE_SECONDS
    ) -> list[Event]:
        """Return the events up to the first one for which `holds`; none is returned twice."""
        self._wait(lambda: any(map(holds, self._events)), "told what was waited for", within)
        with self._said:
            count = next(place for place, event in enumerate(self._events, 1) if holds(event))
            events, self._events = self._events[:count], self._events[count:]
        return events

    def _wait(self, holds: Callable[[], bool], what: str, within: float) -> None:
        with self._said:
            self._said.wait_for(lambda: self._ended or holds(), within)
            if not holds():
                ended = "it ended" if self._ended else f"in {within:g} s"
                raise ProgramFailed(f"it has not {what} ({ended}); it told: {self._events}")

    def close(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        try:
            self._child.wait(10)
        finally:
            self._child.kill()
            self._reader.join()
            if self._child.stdout is not None:
                self._child.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
