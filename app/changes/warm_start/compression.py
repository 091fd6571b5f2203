"""Compressed JSON lines in one cache value; a corrupted value is treated as missing."""

import asyncio
import json
import zlib
from collections.abc import Iterable, Sequence
from hashlib import blake2b

AT_MOST_BYTES = 8 * 1024 * 1024
_AT_ONCE = 64 * 1024  # bytes to compress before other tasks get a turn
_INFLATED_AT_MOST = 32 * AT_MOST_BYTES


def encode_line(members: Iterable[object]) -> bytes:
    return json.dumps(list(members), separators=(",", ":")).encode() + b"\n"


async def compress_lines(lines: Iterable[bytes]) -> bytes:
    """Compress lines in portions, so that other tasks run in between."""
    compressor = zlib.compressobj(level=1)
    pieces: list[bytes] = []
    waiting: list[bytes] = []
    size = 0
    for one in lines:
        waiting.append(one)
        size += len(one)
        if size >= _AT_ONCE:
            pieces.append(compressor.compress(b"".join(waiting)))
            waiting, size = [], 0
            await asyncio.sleep(0)
    pieces += [compressor.compress(b"".join(waiting)), compressor.flush()]
    body = b"".join(pieces)
    return _checksum(body) + body


def decompress_lines(value: bytes | None) -> Sequence[bytes]:
    """Return the lines of what `compress_lines` wrote, none if it is anything else."""
    size = len(_checksum(b""))
    if value is None or _checksum(value[size:]) != value[:size]:
        return ()
    try:
        return _decompress(value[size:]).splitlines()
    except (ValueError, zlib.error):
        return ()


def _decompress(body: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    text = decompressor.decompress(body, _INFLATED_AT_MOST)
    if not decompressor.eof:
        raise ValueError("larger than anything ever written")
    return text


def _checksum(body: bytes) -> bytes:
    return blake2b(body, digest_size=16).digest()
