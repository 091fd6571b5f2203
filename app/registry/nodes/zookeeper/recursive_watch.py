"""One watch for all data changes below a path: `addWatch` of ZooKeeper 3.6, which kazoo lacks.

One watch for each node would mean thousands of watches, each set again after every event.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from kazoo.client import KazooClient
from kazoo.protocol.connection import CHANGED_EVENT, CREATED_EVENT
from kazoo.protocol.serialization import Watch, int_struct, write_string

_RECURSIVE = 1


@dataclass(frozen=True, slots=True)
class RecursiveWatch:
    """Request as kazoo serializes it; the reply is empty.

    Setting the watch again has no effect. It lasts as long as the connection.
    """

    type: ClassVar = 106
    path: str

    def serialize(self) -> bytes:
        path: bytes = write_string(self.path)
        return b"".join([path, int_struct.pack(_RECURSIVE)])

    @staticmethod
    def deserialize(_: bytes, __: int) -> bool:
        return True


def forward_data_changes(client: KazooClient, callback: Callable[[str], None]) -> None:
    """Call `callback` on kazoo's thread with the path of each node whose data has changed.

    kazoo knows no watcher for these paths and would ignore the events of such a watch. When
    thousands of instances register, each creates an event, of which only the type is read.
    """
    connection = client._connection  # noqa: SLF001 - no public method intercepts events
    original = connection._read_watch_event  # noqa: SLF001

    def read_watch_event(buffer: Any, offset: int) -> None:
        (kind,) = int_struct.unpack_from(buffer, offset)
        if kind == CHANGED_EVENT:
            callback(client.unchroot(Watch.deserialize(buffer, offset)[0].path))
        elif kind != CREATED_EVENT:  # the watch on names reports created nodes
            original(buffer, offset)

    connection._read_watch_event = read_watch_event  # noqa: SLF001
