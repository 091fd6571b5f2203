"""Lines of JSON in one value of a cache: squeezed, and recognised as nothing where it was hurt."""

import asyncio
import json
import zlib
from collections.abc import Iterable, Sequence
from hashlib import blake2b

AT_MOST_BYTES = 8 * 1024 * 1024
_AT_ONCE = 64 * 1024  # bytes to squeeze before others get their turn
_INFLATED_AT_MOST = 32 * AT_MOST_BYTES


def line(members: Iterable[object]) -> bytes:
    return json.dumps(list(members), separators=(",", ":")).encode() + b"\n"


async def packed(lines: Iterable[bytes]) -> bytes:
    """Join lines, a few at a time: there may be many, and others want to go on."""
    squeezing = zlib.compressobj(level=1)
    pieces: list[bytes] = []
    waiting: list[bytes] = []
    size = 0
    for one in lines:
        waiting.append(one)
        size += len(one)
        if size >= _AT_ONCE:
            pieces.append(squeezing.compress(b"".join(waiting)))
            waiting, size = [], 0
            await asyncio.sleep(0)
    pieces += [squeezing.compress(b"".join(waiting)), squeezing.flush()]
    body = b"".join(pieces)
    return _checksum(body) + body


def unpacked(value: bytes | None) -> Sequence[bytes]:
    """Return the lines of what `packed` wrote, none if it is anything else."""
    size = len(_checksum(b""))
    if value is None or _checksum(value[size:]) != value[:size]:
        return ()
    try:
        return _inflated(value[size:]).splitlines()
    except (ValueError, zlib.error):
        return ()


def _inflated(body: bytes) -> bytes:
    inflating = zlib.decompressobj()
    text = inflating.decompress(body, _INFLATED_AT_MOST)
    if not inflating.eof:
        raise ValueError("more than was ever written")
    return text


def _checksum(body: bytes) -> bytes:
    return blake2b(body, digest_size=16).digest()
