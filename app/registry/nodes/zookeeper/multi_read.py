"""Reads many nodes with one request: `multiRead` of ZooKeeper 3.6, which kazoo lacks.

One request for each node would cost client and server twenty times as much.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kazoo.exceptions import EXCEPTIONS
from kazoo.protocol.serialization import (
    GetData,
    MultiHeader,
    int_struct,
    read_buffer,
    stat_struct,
)
from kazoo.protocol.states import ZnodeStat


@dataclass(frozen=True, slots=True)
class MultiRead:
    """Request and reply as kazoo serializes them."""

    type: ClassVar = 22
    paths: Sequence[str]

    def serialize(self) -> bytes:
        requests = [
            MultiHeader(GetData.type, done=False, err=-1).serialize()
            + GetData(path, None).serialize()
            for path in self.paths
        ]
        return b"".join([*requests, MultiHeader(-1, done=True, err=-1).serialize()])

    @staticmethod
    def deserialize(buffer: bytes, offset: int) -> list[Any]:
        """Return for each path the result of `get`, or the error."""
        results: list[Any] = []
        header, offset = MultiHeader.deserialize(buffer, offset)
        while not header.done:
            if header.type == GetData.type:
                data, offset = read_buffer(buffer, offset)
                results.append((data, ZnodeStat._make(stat_struct.unpack_from(buffer, offset))))
                offset += stat_struct.size
            else:
                (error,) = int_struct.unpack_from(buffer, offset)
                results.append(EXCEPTIONS[error]())
                offset += int_struct.size
            header, offset = MultiHeader.deserialize(buffer, offset)
        return results
