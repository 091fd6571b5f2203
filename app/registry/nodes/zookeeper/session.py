"""One session with ZooKeeper, which connects the threads of kazoo with the event loop.

Callbacks on kazoo's threads only forward to the loop: waiting for a reply there would deadlock.
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

from app.connection_failures import explain_connection_failure, find_unknown_hosts, hosts_of
from app.registry.errors import NodesUnavailable
from app.registry.nodes.port import Session
from app.registry.nodes.zookeeper.multi_read import MultiRead
from app.registry.nodes.zookeeper.recursive_watch import RecursiveWatch, forward_data_changes
from app.timeouts import timeout_while_running

CALL_SECONDS = 2.0
SESSION_SECONDS = 10.0
CONNECTION_SECONDS = 1.0
_CLOSE_SECONDS = 3.0
# kazoo wakes its thread by a byte in a pipe; writing blocks when 270 bytes are unread.
_IN_FLIGHT = 100
_READ_AT_ONCE = 100
EXPECTED_ERRORS = (NoNodeError, NodeExistsError, BadVersionError, NotEmptyError)
_ATTEMPTS = 4  # minimum number of attempts to connect within a session
_REFUSALS = 3  # before checking whether ZooKeeper has lost data
_LOOK_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0  # between attempts to connect; kazoo's default grows to a minute
_SETTING = "ZOOKEEPER_HOSTS"
_log = structlog.get_logger(__name__)


class ZooKeeperSession:
    """Connects from its creation, in a running loop, until it is closed."""

    def __init__(
        self,
        hosts: str,
        on_change: Callable[[], None],
        *,
        seconds: float = SESSION_SECONDS,
        connection_seconds: float = CONNECTION_SECONDS,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        """Call `on_change` after the connection was made or lost.

        An attempt to connect takes at most `connection_seconds`, less if the session is short.
        """
        self._call_seconds = call_seconds
        self._loop = asyncio.get_running_loop()
        self._on_change = on_change
        self._lifetime = seconds
        self._state = KazooState.LOST
        self._since = monotonic()
        self._id = 0
        self._number = 0
        self._on_data_change: Callable[[str], None] = lambda _: None
        self._refusals = 0  # connections refused since the last session
        self._comparing: asyncio.Task[None] | None = None
        self._turns = asyncio.Semaphore(_IN_FLIGHT)
        self._closed: asyncio.Event | None = None  # None until `close` is called
        self._attempts = max(_ATTEMPTS, ceil(seconds / connection_seconds))
        self._hosts = _repeat_hosts(hosts, self._attempts)
        self._named_hosts = hosts_of(hosts)
        self._failure: Exception | None = None  # of the last attempt to connect
        self._client = self._start_client()

    def _start_client(self) -> KazooClient:
        """Start a new client that connects and has no history with ZooKeeper."""
        client = KazooClient(
            self._hosts,
            timeout=self._lifetime,
            connection_retry=KazooRetry(max_tries=-1, max_delay=_LONGEST_PAUSE_SECONDS),
            handler=_ConnectionHandler(
                self._lifetime / self._attempts, self._note_connection, self._note_attempt
            ),
        )
        client.add_listener(partial(self._on_state, client))
        forward_data_changes(client, self._forward_change)
        client.start_async()
        return client

    @property
    def session(self) -> Session:
        seconds = monotonic() - self._since
        match self._state:
            case KazooState.CONNECTED:
                return Session("connected", self._id, self._number, seconds)
            # ZooKeeper reports the end of a session only after a reconnection.
            case KazooState.SUSPENDED if seconds < self._lifetime:
                return Session("suspended", self._id, self._number, seconds)
            case KazooState.SUSPENDED:
                return Session("lost", self._id, self._number, seconds - self._lifetime)
            case _:
                return Session("lost", self._id, self._number, seconds)

    @property
    def is_connected(self) -> bool:
        return bool(self._state == KazooState.CONNECTED)

    def _note_attempt(self, failure: Exception | None) -> None:
        self._failure = failure

    async def outage_reason(self) -> str:
        """Return why there is no connection as the suffix of a message; may be empty."""
        if self.is_connected:
            return ""
        unknown = await find_unknown_hosts(self._named_hosts)
        if unknown:
            named = ", ".join(repr(host) for host in unknown)
            return f": ZOOKEEPER_HOSTS contains unknown host names: {named}"
        reason = self._failure and explain_connection_failure(self._failure, _SETTING)
        return f": {reason}" if reason else ""

    async def call(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        """Call an operation of kazoo by name, for example `get`.

        Raises NodesUnavailable within `call_seconds`, and the kazoo errors
        NoNodeError, NodeExistsError, BadVersionError and NotEmptyError.
        """
        return await self.request(
            lambda: getattr(self._client, f"{operation}_async")(*args, **kwargs)
        )

    async def read_many(self, paths: Sequence[str]) -> list[Any]:
        """Read many nodes: for each path the result of `get`, or NoNodeError.

        Raises NodesUnavailable after `call_seconds` for each hundred.
        """
        replies: list[Any] = []
        for start in range(0, len(paths), _READ_AT_ONCE):
            batch = [self._client.chroot + path for path in paths[start : start + _READ_AT_ONCE]]
            answers = await self.request(partial(self._send, MultiRead(batch)))
            replies += [_expected_reply(answer) for answer in answers]
        return replies

    def _forward_change(self, path: str) -> None:
        self._on_data_change(path)

    async def watch_below(self, path: str, callback: Callable[[str], None]) -> None:
        """Call `callback` with the path of each node below `path` whose data has changed.

        It is called on a thread of kazoo while the connection lasts. Raises NodesUnavailable.
        """
        self._on_data_change = callback
        await self.request(partial(self._send, RecursiveWatch(self._client.chroot + path)))

    def _send(self, request: Any) -> Any:
        answer = self._client.handler.async_result()
        self._client._call(request, answer)  # noqa: SLF001 - no public method sends a new request type
        return answer

    def transaction(self) -> TransactionRequest:
        return self._client.transaction()

    async def commit(self, transaction: TransactionRequest) -> list[object]:
        """Commit and return the result of each operation; if one fails, all are exceptions."""
        results: list[object] = await self.request(transaction.commit_async)
        return results

    async def request(self, send: Callable[[], Any]) -> Any:
        # While suspended, kazoo would queue the request and send it after a reconnection.
        if not self.is_connected:
            raise NodesUnavailable("ZooKeeper is not connected")
        return await self._await_reply(send)

    async def _await_reply(self, send: Callable[[], Any]) -> Any:
        try:
            async with timeout_while_running(self._call_seconds), self._turns:
                future: asyncio.Future[Any] = self._loop.create_future()
                send().rawlink(lambda done: self.call_on_loop(_settle, future, done))
                return await future
        except TimeoutError as error:
            raise NodesUnavailable("ZooKeeper does not answer") from error
        except EXPECTED_ERRORS:
            raise
        except KazooException as error:
            raise _unavailable(error) from error

    def call_on_loop(self, do: Callable[..., None], *args: Any) -> None:
        """Call a function on the loop; safe on any thread."""
        with suppress(RuntimeError):  # the loop is closed: no caller waits
            self._loop.call_soon_threadsafe(do, *args)

    def _on_state(self, client: KazooClient, state: str) -> None:
        self.call_on_loop(self._enter, client, state, _session_id(client), monotonic())

    def _enter(self, client: KazooClient, state: str, id_: int, at: float) -> None:
        if client is not self._client:  # a replaced client, or one used for comparison
            return
        self._state, self._since = state, at
        if state == KazooState.CONNECTED:
            self._refusals = 0
            if id_ != self._id:
                self._id = id_
                self._number += 1
        _log.info("zookeeper_session", state=state.lower(), number=self._number)
        self._on_change()

    # A ZooKeeper that has lost its data permanently refuses clients that have seen newer changes.
    # A server that lags behind the others does so for a short time; one that starts, or has no
    # majority, refuses all clients.

    def _note_connection(self, client_of: object) -> None:
        """Count a new connection, which may still be refused; called on a thread of kazoo."""
        self.call_on_loop(self._count_refusal, client_of)

    def _count_refusal(self, client_of: object) -> None:
        if client_of is not self._client.handler or self.is_connected or self._closed is not None:
            return
        self._refusals += 1
        if self._refusals > _REFUSALS and self._comparing is None and self._client.last_zxid:
            self._comparing = asyncio.create_task(self._compare_histories())

    async def _compare_histories(self) -> None:
        """Replace the client by a new one if ZooKeeper has lost the changes it has seen."""
        fresh = self._start_client()
        try:
            newest = await self._newest_change(fresh)
            seen = self._client.last_zxid
            if newest is not None and newest < seen and not self.is_connected:
                _log.warning("zookeeper_lost_data", seen=seen, newest=newest)
                fresh, self._client = self._client, fresh
                self._enter(
                    self._client, self._client.state, _session_id(self._client), monotonic()
                )
        finally:
            self._comparing, self._refusals = None, 0
            _stop_client(fresh)

    async def _newest_change(self, fresh: KazooClient) -> int | None:
        """Return the number of the newest change; None if it cannot be determined.

        A server may lag behind: `sync` lets it catch up first.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._lifetime):
                while not fresh.connected:
                    if self.is_connected or self._closed is not None:
                        return None
                    await asyncio.sleep(_LOOK_SECONDS)
            with suppress(NodesUnavailable):
                await self._await_reply(partial(fresh.sync_async, "/"))
                return int(fresh.last_zxid)
        return None

    async def close(self) -> None:
        """End the session and delete its nodes; waits at most three seconds.

        If the server is unavailable, the nodes last until the session expires.
        """
        if self._closed is None:
            self._closed = asyncio.Event()
            if self._comparing is not None:
                self._comparing.cancel()
            _stop_client(self._client, lambda: self.call_on_loop(self._note_end))
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._closed.wait()

    def _note_end(self) -> None:
        if self._closed is not None:
            self._closed.set()


def _stop_client(client: KazooClient, ended: Callable[[], None] = lambda: None) -> None:
    """End the session of a client on a daemon thread."""

    def end() -> None:
        with suppress(KazooException, OSError):
            client.stop()
            client.close()
        ended()

    Thread(target=end, name="zookeeper-close", daemon=True).start()


def _session_id(client: KazooClient) -> int:
    identity = client.client_id
    return identity[0] if identity else 0


class _ConnectionHandler(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo has no types
    """Limits the time to connect to one host, for which kazoo allows a whole session.

    Calls `on_connected` with itself after each connection, before there is a session, and
    `on_attempt` with the error of each attempt, None if it succeeded.
    """

    def __init__(
        self,
        seconds: float,
        on_connected: Callable[[object], None],
        on_attempt: Callable[[Exception | None], None],
    ) -> None:
        super().__init__()
        self._seconds = seconds
        self._on_connected = on_connected
        self._on_attempt = on_attempt

    def create_connection(self, *args: Any, **kwargs: Any) -> Any:
        try:
            connection = super().create_connection(*args, **{**kwargs, "timeout": self._seconds})
        except Exception as error:
            self._on_attempt(error)
            raise
        self._on_attempt(None)
        self._on_connected(self)
        return connection


def _repeat_hosts(hosts: str, attempts: int) -> str:
    """Repeat the list of hosts until there are this many.

    kazoo waits for the reply to a new connection for the length of a session divided by the number
    of hosts: a server that is starting could use up the whole session.
    """
    names, slash, chroot = hosts.partition("/")
    times = ceil(attempts / len(names.split(",")))
    return ",".join([names] * times) + slash + chroot


def _settle(future: "asyncio.Future[Any]", done: Any) -> None:
    if future.done():  # the caller has stopped waiting
        return
    if done.successful():
        future.set_result(done.value)
    else:
        future.set_exception(done.exception)


def _expected_reply(answer: Any) -> Any:
    """Return a reply; raises NodesUnavailable for an unexpected error."""
    if isinstance(answer, KazooException) and not isinstance(answer, EXPECTED_ERRORS):
        raise _unavailable(answer)
    return answer


def _unavailable(error: KazooException) -> NodesUnavailable:
    return NodesUnavailable(f"ZooKeeper request failed: {type(error).__name__}")
