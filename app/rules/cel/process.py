"""Rules evaluated in a child process, which is started again whenever it has ended."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from app.rules.cel.model import Flaw, Question, Verdict
from app.rules.errors import RulesUnavailable
from app.telemetry import RULES_KILLED
from app.workers import run_in_worker

_ROOT = Path(__file__).parents[3]
_MODULE = "pilothouse_core.judgement.rule_child"
_START_SECONDS = 20.0
# Of the time of a write, which must have been judged long before its end. A child that does not
# answer is asked again within it; its processor time is bounded by the child itself.
_ANSWER_SHARE = 0.3
_WHOLE_SHARE = 0.6
_MOST_WAITING = 100
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 5.0
_MOST_LINE_BYTES = 64 * 1024
# How the child ends by its own limits; anything else is not the rule's doing.
_OVER_BUDGET = {-signal.SIGPROF: "cpu", -signal.SIGABRT: "memory", -signal.SIGSEGV: "memory"}
_TOO_COSTLY = {"reason": "the expression takes too long to compile", "column": 0}
_log = structlog.get_logger(__name__)


class ChildEnded(Exception):
    """The child has ended or does not answer; `results` came before."""

    def __init__(self, reason: str, results: list[Any], *, is_over_budget: bool) -> None:
        super().__init__(reason)
        self.results, self.is_over_budget = results, is_over_budget


class RuleProcess:
    """Evaluates rules in one child, one write at a time. See RuleEvaluator.

    A rule that ends the child by its limits is undecided, as are those after it. A child that does
    not answer, or is ended by anything else, is asked again once. `write_seconds`: how long a write
    takes at most, of which rules get a share. `command` starts another child, for tests.
    """

    def __init__(self, command: Sequence[str] = (), *, write_seconds: float) -> None:
        self._command = tuple(command) or (sys.executable, "-m", _MODULE)
        self._answer_seconds = write_seconds * _ANSWER_SHARE
        self._whole_seconds = write_seconds * _WHOLE_SHARE
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._process: Process | None = None
        self._starting: asyncio.Task[Process] | None = None
        self._pause = 0.0

    async def compile(self, expressions: Sequence[str]) -> list[Flaw | None]:
        """Say of each expression why it does not compile. Raises RulesUnavailable."""
        results = await self._ask({"compile": list(expressions)}, len(expressions), _TOO_COSTLY)
        return [None if each is None else Flaw(each["reason"], each["column"]) for each in results]

    async def judge(self, questions: Sequence[Question]) -> list[list[Verdict]]:
        """Answer all questions of one write. Raises RulesUnavailable."""
        bodies = [{"expressions": each.expressions, "config": each.config} for each in questions]
        count = sum(len(each.expressions) for each in questions)
        results = iter(await self._ask({"judge": bodies}, count, Verdict.UNDECIDED))
        return [[Verdict(next(results)) for _ in each.expressions] for each in questions]

    async def close(self) -> None:
        """End the child."""
        async with self._turn:
            if self._starting is not None:
                self._starting.cancel()
                await asyncio.wait([self._starting])
                self._starting = None
            await self._stop()

    async def _ask(self, request: Any, count: int, undecided: Any) -> list[Any]:
        """Return `count` results, `undecided` for those that the child's limits prevent."""
        if not count:
            return []
        if self._waiting >= _MOST_WAITING:
            raise RulesUnavailable("too many writes wait for their rules to be evaluated")
        try:
            async with asyncio.timeout(self._whole_seconds):
                return await self._ask_in_turn(request, count, undecided)
        except TimeoutError:
            raise RulesUnavailable("rules are not evaluated in time") from None

    async def _ask_in_turn(self, request: Any, count: int, undecided: Any) -> list[Any]:
        self._waiting += 1
        try:
            line = await run_in_worker(_request_line, request)  # there may be many keys in it
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        try:
            return await self._ask_twice(line, count, undecided)
        except BaseException:
            await self._stop()  # its next answer would be of this request
            raise
        finally:
            self._turn.release()

    async def _ask_twice(self, line: bytes, count: int, undecided: Any) -> list[Any]:
        for is_last in (False, True):
            try:
                return await self._exchange(line, count)
            except ChildEnded as error:
                if error.is_over_budget:
                    return error.results + [undecided] * (count - len(error.results))
                if is_last:
                    raise RulesUnavailable(
                        "the process that evaluates rules does not answer"
                    ) from error
        raise AssertionError

    async def _exchange(self, line: bytes, count: int) -> list[Any]:
        process = await self._running()
        assert process.stdin is not None
        results: list[Any] = []
        try:
            async with asyncio.timeout(self._answer_seconds):
                with suppress(OSError):  # it has ended: what it says is read below
                    process.stdin.write(line)
                    await process.stdin.drain()
                while len(results) < count:
                    results.append(await _read_result(process))
        except (TimeoutError, EOFError, ValueError) as error:
            raise await self._end_child(error, results) from error
        self._pause = 0.0
        return results

    async def _running(self) -> Process:
        """Return the child, started if there is none."""
        if self._process is not None:
            if self._process.returncode is None:
                return self._process
            await self._end_child(EOFError(), [])  # it ended between two requests
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(_retrieve_exception)
        try:
            # A write that is given up leaves the start to the next one: a slow machine would
            # begin it again and again.
            self._process = await asyncio.shield(self._starting)
        finally:
            if self._starting.done():
                self._starting = None
        return self._process

    async def _start(self) -> Process:
        """Start a child, after a pause if the last one failed."""
        await asyncio.sleep(self._pause)
        process: Process | None = None
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=_ROOT,
                env={"PYTHONPATH": ":".join(filter(None, sys.path))},
                limit=_MOST_LINE_BYTES,
            )
            async with asyncio.timeout(_START_SECONDS):
                await _read_result(process)
        except (OSError, TimeoutError, EOFError, ValueError) as error:
            self._process = process
            raise await self._end_child(error, []) from error
        except asyncio.CancelledError:
            self._process = process
            await self._stop()
            raise
        return process

    async def _end_child(self, error: Exception, results: list[Any]) -> ChildEnded:
        """Stop the child, and say why it has to be."""
        is_silent = isinstance(error, TimeoutError)
        code = await self._stop(kill=is_silent)
        reason = "silent" if is_silent else _OVER_BUDGET.get(code, "ended")
        is_over_budget = reason in _OVER_BUDGET.values()
        RULES_KILLED.labels(reason).inc()
        _log.warning("rules_killed", reason=reason, exit_code=code)
        if not is_over_budget:
            self._pause = min(max(_FIRST_PAUSE_SECONDS, 2 * self._pause), _LONGEST_PAUSE_SECONDS)
        return ChildEnded(reason, results, is_over_budget=is_over_budget)

    async def _stop(self, *, kill: bool = True) -> int:
        """Wait for the end of the child, killed unless it is ending; return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        if kill:
            with suppress(ProcessLookupError):
                process.kill()
        assert process.stdin is not None
        process.stdin.close()
        return await process.wait()


def _retrieve_exception(task: asyncio.Task[Process]) -> None:
    """Keep the event loop from reporting a failure for which no write waits any more."""
    if not task.cancelled():
        task.exception()


def _request_line(request: Any) -> bytes:
    return json.dumps(request).encode() + b"\n"


async def _read_result(process: Process) -> Any:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return json.loads(line)
