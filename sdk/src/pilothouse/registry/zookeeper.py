"""An instance registered in ZooKeeper itself, as Apache Curator does it, without the service.

The node lives as long as this program's session. The service finds it, and so do Curator's clients.
Needs kazoo: `pip install 'pilothouse-client[zookeeper]'`.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from math import ceil
from types import TracebackType
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NodeExistsError, NoNodeError
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.states import KazooState
from kazoo.retry import KazooRetry

from pilothouse.errors import PilothouseError, Unavailable
from pilothouse.registry.registration import instance_of
from pilothouse.transport import full_jitter
from pilothouse_core.curator import MAX_NODE_BYTES, node_data
from pilothouse_core.instances import FencingToken

_CALL = 2.0  # seconds that ZooKeeper may take for an answer
_LOOK = 30.0  # seconds until the node is checked again without a watch event
_LONGEST_BACKOFF = 2.0
_LEAVING = 2.0
_REFUSALS = 3  # until it is asked whether ZooKeeper still has what was seen of it
_ATTEMPTS = 4  # at least, to connect while a session lasts
# Epochs are counted by the service. With one, it reads weight, zone, tags and version as well.
_TAG = FencingToken(1, 1)
_log = logging.getLogger("pilothouse")


class NotConnected(KazooException):  # type: ignore[misc]  # kazoo has no types
    pass


class _CountingHandler(SequentialThreadingHandler):  # type: ignore[misc]
    """Counts connections; those that give no session were refused."""

    def __init__(self) -> None:
        super().__init__()
        self.connections = 0

    def create_connection(self, *words: Any, **more: Any) -> Any:
        made = super().create_connection(*words, **more)
        self.connections += 1
        return made


class Interfered(KazooException):  # type: ignore[misc]
    """The node changed between reading and writing."""


class ZooKeeperRegistration:
    """Keeps an ephemeral node from entering to leaving, by `with` or `async with`.

    `hosts` is one `host:port` or several with commas between them; `base_path` is that of the
    service. Entering waits at most `start_timeout` seconds and never raises if ZooKeeper is
    unavailable: it retries, also after a lost session, and when ZooKeeper has lost its data. A node
    that a dead program left under the same id is replaced; the node of a live program that
    registers under the id later is not. Leaving removes the node, waits `drain_seconds`, and ends
    the session, which takes at most two seconds more.

    Raises ValueError for invalid members. Do not use an id that is registered with the
    service as well: the service would replace the node.
    """

    def __init__(  # noqa: PLR0913 - each is one thing that an instance may say of itself
        self,
        hosts: str,
        service_name: str,
        url: str,
        instance_id: str | None = None,
        *,
        base_path: str = "/services",
        metadata: Mapping[str, str] | None = None,
        tags: Collection[str] | None = None,
        version: str | None = None,
        weight: int | None = None,
        zone: str | None = None,
        warmup_seconds: float | None = None,
        session_seconds: float = 10.0,
        start_timeout: float = 5.0,
        drain_seconds: float = 0.0,
    ) -> None:
        instance = instance_of(
            {
                "service_name": service_name,
                "service_url": url,
                "instance_id": instance_id,
                "metadata": None if metadata is None else dict(metadata),
                "tags": None if tags is None else list(tags),
                "version": version,
                "weight": weight,
                "zone": zone,
                "warmup_seconds": warmup_seconds,
            }
        )
        if not base_path.startswith("/") or base_path.endswith("/"):
            raise ValueError(
                f"{base_path!r} is not a path that starts with '/' and does not end with it"
            )
        self.service_name, self.instance_id = instance.service_name, instance.instance_id
        self.path = f"{base_path}/{self.service_name}/{self.instance_id}"
        self.last_error: PilothouseError | None = None  # why the node does not exist
        self._data = partial(node_data, instance, _TAG)
        if len(self._data(0)) + 20 > MAX_NODE_BYTES:
            raise ValueError("the registration is too large for ZooKeeper")
        self._start_timeout, self._drain_seconds = start_timeout, drain_seconds
        self._hosts, self._session_seconds = _often(hosts), session_seconds
        self._client: Any = None
        self._written = b""
        self._sessions: set[int] = set()  # of ours, which had the node
        self._stands = threading.Event()
        self._woken = threading.Event()
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = 0

    @property
    def is_registered(self) -> bool:
        """Whether the node exists, as far as is known."""
        return self._stands.is_set()

    def __enter__(self) -> "ZooKeeperRegistration":
        if self._pid:
            raise RuntimeError("a registration can be entered only once: create another one")
        self._pid = os.getpid()
        self._written = self._data(int(time.time() * 1000))
        self._client = self._new_client()
        self._client.start_async()
        self._thread = threading.Thread(target=self._keep, name="pilothouse-zookeeper", daemon=True)
        self._thread.start()
        self._stands.wait(self._start_timeout)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is None or self._pid != os.getpid():
            return
        self.drain()
        if self._drain_seconds and self._thread is not None:
            time.sleep(self._drain_seconds)
        self._thread = None
        _closing(self._client).join(_LEAVING / 2)

    async def __aenter__(self) -> "ZooKeeperRegistration":
        await asyncio.to_thread(self.__enter__)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    def drain(self) -> None:
        """Remove the node now, to be left later; never raises."""
        self._leaving.set()
        self._woken.set()
        if self._thread is not None and self._pid == os.getpid():
            self._thread.join(_LEAVING / 2)

    # On the registration's own thread

    def _keep(self) -> None:
        failures = 0
        while not self._leaving.is_set():
            self._woken.clear()
            try:
                pause = self._look()
                failures = 0
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                failures += 1
                self._record_failure(str(error) or type(error).__name__)
                pause = full_jitter(failures, 0.1, _LONGEST_BACKOFF)
            self._woken.wait(pause)
        with suppress(Exception):  # the end of the session removes it as well
            self._remove()
        self._stands.clear()

    def _look(self) -> float:
        """Create or check the node; return the seconds until the next check."""
        if self._client.state != KazooState.CONNECTED:
            self._replace_client_if_data_is_lost()
        if self._client.state != KazooState.CONNECTED:
            raise NotConnected("not connected")  # kazoo would keep requests until it is
        self._client.handler.connections = 0
        own = self._own
        try:
            _, stat = self._result_of(self._client.get_async(self.path, watch=self._on_watch_event))
        except NoNodeError:
            self._stands.clear()
            with suppress(NodeExistsError):
                creating = self._client.create_async(
                    self.path, self._written, ephemeral=True, makepath=True
                )
                self._result_of(creating)
            return 0.0  # to be seen, and watched
        if stat.ephemeralOwner == own:
            if not self._stands.is_set():
                _log.info("%s is registered in ZooKeeper", self.path)
            self._sessions.add(own)
            self.last_error = None
            self._stands.set()
            return _LOOK
        self._stands.clear()
        if self._sessions and stat.ephemeralOwner not in self._sessions:
            self._record_failure("another program has registered under this id")
            return _LOOK
        # Its session has ended or is ending: a live program would not register again.
        transaction = self._client.transaction()
        transaction.delete(self.path, stat.version)
        transaction.create(self.path, self._written, ephemeral=True)
        results = self._result_of(transaction.commit_async())
        if any(isinstance(result, Exception) for result in results):
            raise Interfered  # everything has to be read again
        return 0.0

    def _new_client(self) -> Any:
        client = KazooClient(
            self._hosts,
            timeout=self._session_seconds,
            connection_retry=KazooRetry(max_tries=-1, max_delay=_LONGEST_BACKOFF),
            handler=_CountingHandler(),
        )
        client.add_listener(self._on_session_change)
        return client

    def _replace_client_if_data_is_lost(self) -> None:
        """Replace the client if ZooKeeper lost data that the old one has seen.

        ZooKeeper permanently refuses a client that has seen a later state than its own. A server
        that lags behind or starts refuses clients for a short time: then the old client stays.
        """
        old = self._client
        if old.handler.connections <= _REFUSALS or not old.last_zxid:
            return
        old.handler.connections = 0
        fresh = self._new_client()
        try:
            if not fresh.start_async().wait(_CALL) or old.state == KazooState.CONNECTED:
                return
            self._result_of(fresh.sync_async("/"))  # with it a server catches up that lags behind
            if fresh.last_zxid < old.last_zxid and not self._leaving.is_set():
                _log.warning("ZooKeeper has lost its data: %s is created again", self.path)
                self._client, fresh = fresh, old
        finally:
            _closing(fresh)
        if self._leaving.is_set():  # leaving may have closed the old one
            _closing(self._client)

    @property
    def _own(self) -> int:
        identity = self._client.client_id
        return identity[0] if identity else 0

    def _remove(self) -> None:
        if self._client.state != KazooState.CONNECTED:
            return
        _, stat = self._result_of(self._client.get_async(self.path))
        if stat.ephemeralOwner == self._own:
            self._result_of(self._client.delete_async(self.path))

    def _result_of(self, result: Any) -> Any:
        return result.get(timeout=_CALL)

    def _record_failure(self, reason: str) -> None:
        self._stands.clear()
        level = logging.DEBUG if reason == str(self.last_error) else logging.WARNING
        _log.log(level, "%s is not registered in ZooKeeper: %s", self.path, reason)
        self.last_error = Unavailable(reason)

    # On kazoo's threads: hand over, and wait for nothing

    def _on_session_change(self, _: str) -> None:
        self._woken.set()

    def _on_watch_event(self, _: object) -> None:
        self._woken.set()


def _closing(client: Any) -> threading.Thread:
    """Close a client on a thread that the interpreter does not wait for at its end."""

    def close() -> None:
        with suppress(KazooException, OSError):
            client.stop()
            client.close()

    thread = threading.Thread(target=close, name="pilothouse-zookeeper", daemon=True)
    thread.start()
    return thread


def _often(hosts: str) -> str:
    """Name hosts again until there are some.

    For the answer to a new connection kazoo waits as long as a session lasts, divided by the number
    of hosts: a server that starts, and is silent once, would cost the whole session.
    """
    names, slash, chroot = hosts.partition("/")
    times = ceil(_ATTEMPTS / len(names.split(",")))
    return ",".join([names] * times) + slash + chroot
