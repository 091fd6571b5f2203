"""One session with ZooKeeper: kazoo's threads on one side, this event loop on the other.

On kazoo's threads nothing is done but handing over: what waits there for an answer waits for ever.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import ceil
from threading import Thread
from time import monotonic
from typing import Any

import structlog
from kazoo.client import KazooClient, TransactionRequest
from kazoo.exceptions import (
    BadVersionError,
    KazooException,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
)
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.states import KazooState
from kazoo.retry import KazooRetry

from app.patience import within
from app.registry.errors import NodesUnavailable
from app.registry.port import Session
from app.registry.zookeeper_reading import Reading

CALL_SECONDS = 2.0
SESSION_SECONDS = 10.0
CONNECTION_SECONDS = 1.0
_CLOSE_SECONDS = 3.0
# kazoo wakes its thread by a byte in a pipe, which blocks the caller when 270 lie there unread.
_IN_FLIGHT = 100
_READ_AT_ONCE = 100
ANSWERS = (NoNodeError, NodeExistsError, BadVersionError, NotEmptyError)
_ATTEMPTS = 4  # at least, to connect while a session lasts
_LONGEST_PAUSE_SECONDS = 1.0  # between attempts to connect; kazoo's own grow to a minute
_log = structlog.get_logger(__name__)


class ZooKeeperSession:
    """Begins to connect when it is made, inside a running loop, and goes on until it is closed."""

    def __init__(
        self,
        hosts: str,
        moved: Callable[[], None],
        *,
        seconds: float = SESSION_SECONDS,
        connection_seconds: float = CONNECTION_SECONDS,
    ) -> None:
        """Call `moved` whenever the connection was made or lost.

        An attempt to make it takes `connection_seconds`, or less where a session is short.
        """
        self._loop = asyncio.get_running_loop()
        self._moved = moved
        self._lifetime = seconds
        self._state = KazooState.LOST
        self._since = monotonic()
        self._id = 0
        self._number = 0
        self._turns = asyncio.Semaphore(_IN_FLIGHT)
        self._closed: asyncio.Event | None = None  # while it is not asked for
        retry = KazooRetry(max_tries=-1, max_delay=_LONGEST_PAUSE_SECONDS)
        attempts = max(_ATTEMPTS, ceil(seconds / connection_seconds))
        self._client = KazooClient(
            _often(hosts, attempts),
            timeout=seconds,
            connection_retry=retry,
            handler=_Handler(seconds / attempts),
        )
        self._client.add_listener(self._noticed)
        self._client.start_async()

    @property
    def session(self) -> Session:
        seconds = monotonic() - self._since
        match self._state:
            case KazooState.CONNECTED:
                return Session("connected", self._id, self._number, seconds)
            # Nobody tells that a session is over before there is a connection again.
            case KazooState.SUSPENDED if seconds < self._lifetime:
                return Session("suspended", self._id, self._number, seconds)
            case KazooState.SUSPENDED:
                return Session("lost", self._id, self._number, seconds - self._lifetime)
            case _:
                return Session("lost", self._id, self._number, seconds)

    @property
    def is_connected(self) -> bool:
        return bool(self._state == KazooState.CONNECTED)

    async def call(self, operation: str, *words: Any, **more: Any) -> Any:
        """Ask for an operation of kazoo's by name, e.g. `get`.

        Raises NodesUnavailable after two seconds at the latest, and of kazoo's errors NoNodeError,
        NodeExistsError, BadVersionError and NotEmptyError.
        """
        return await self.answer(
            lambda: getattr(self._client, f"{operation}_async")(*words, **more)
        )

    async def read_many(self, paths: Sequence[str]) -> list[Any]:
        """Read the data of many nodes, in this order: what `get` answers of each, or NoNodeError.

        Raises NodesUnavailable after two seconds for each hundred.
        """
        found: list[Any] = []
        for start in range(0, len(paths), _READ_AT_ONCE):
            asked = [self._client.chroot + path for path in paths[start : start + _READ_AT_ONCE]]
            answers = await self.answer(partial(self._send, Reading(asked)))
            found += [_known(answer) for answer in answers]
        return found

    def _send(self, request: Any) -> Any:
        answer = self._client.handler.async_result()
        self._client._call(request, answer)  # noqa: SLF001 - it has no public way for a new request
        return answer

    def transaction(self) -> TransactionRequest:
        return self._client.transaction()

    async def commit(self, transaction: TransactionRequest) -> list[object]:
        """Return what became of each operation: all happened, or each is an exception."""
        found: list[object] = await self.answer(transaction.commit_async)
        return found

    async def answer(self, send: Callable[[], Any]) -> Any:
        # While it is suspended, kazoo would keep the request and send it whenever it can again.
        if not self.is_connected:
            raise NodesUnavailable("ZooKeeper is not connected")
        try:
            async with within(CALL_SECONDS), self._turns:
                future: asyncio.Future[Any] = self._loop.create_future()
                send().rawlink(lambda done: self.hand_over(_settle, future, done))
                return await future
        except TimeoutError as error:
            raise NodesUnavailable("ZooKeeper does not answer") from error
        except ANSWERS:
            raise
        except KazooException as error:
            raise _unavailable(error) from error

    def hand_over(self, do: Callable[..., None], *words: Any) -> None:
        """Have something done on the loop; may be called on any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(do, *words)

    def _noticed(self, state: str) -> None:
        identity = self._client.client_id
        self.hand_over(self._enter, state, identity[0] if identity else 0, monotonic())

    def _enter(self, state: str, id_: int, at: float) -> None:
        self._state, self._since = state, at
        if state == KazooState.CONNECTED and id_ != self._id:
            self._id = id_
            self._number += 1
        _log.info("zookeeper_session", state=state.lower(), number=self._number)
        self._moved()

    async def close(self) -> None:
        """End the session, and with it all of its nodes; wait for it no longer than three seconds.

        A server that is away cannot be told: the nodes then last until the session runs out.
        """
        if self._closed is None:
            self._closed = asyncio.Event()
            # Not a thread that the interpreter waits for at its end.
            Thread(target=self._close, name="zookeeper-close", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._closed.wait()

    def _close(self) -> None:
        with suppress(KazooException, OSError):
            self._client.stop()
            self._client.close()
        if self._closed is not None:
            self.hand_over(self._closed.set)


class _Handler(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo has no types
    """Turns to the next host in time: for one that is silent kazoo waits as long as a session."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def create_connection(self, *words: Any, **more: Any) -> Any:
        return super().create_connection(*words, **{**more, "timeout": self._seconds})


def _often(hosts: str, attempts: int) -> str:
    """Name hosts again until there are so many.

    For the answer to a new connection kazoo waits as long as a session lasts, divided by the number
    of hosts: a server that starts, and is silent once, would cost the whole session.
    """
    names, slash, chroot = hosts.partition("/")
    times = ceil(attempts / len(names.split(",")))
    return ",".join([names] * times) + slash + chroot


def _settle(future: "asyncio.Future[Any]", done: Any) -> None:
    if future.done():  # nobody waited so long
        return
    if done.successful():
        future.set_result(done.value)
    else:
        future.set_exception(done.exception)


def _known(answer: Any) -> Any:
    """Return an answer, and raise an error that is none."""
    if isinstance(answer, KazooException) and not isinstance(answer, ANSWERS):
        raise _unavailable(answer)
    return answer


def _unavailable(error: KazooException) -> NodesUnavailable:
    return NodesUnavailable(f"ZooKeeper cannot be asked: {type(error).__name__}")
