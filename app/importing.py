"""`python -m app import DIR`: sends a folder of files to a running service."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import aiohttp

_FORMATS = {
    ".yml": "yaml",
    ".yaml": "yaml",
    ".json": "json",
    ".properties": "properties",
    ".env": "dotenv",
}
_SHARED_STEM = "application"
_SECONDS = 60


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    service: str
    format: str


async def import_folder(
    folder: Path, url: str, token: str | None = None, *, dry_run: bool, out: TextIO
) -> int:
    """Import every known file in `folder`; return 0 if all went well, 1 if any did not.

    `application` is the shared layer, any other file's stem is the service. The token is shown to
    the service at `url`.
    """
    files = _files(folder)
    if not files:
        print(f"{folder} is no folder with a {', '.join(_FORMATS)} file in it", file=out)
        return 1
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        results = [await _sent(session, url, file, dry_run=dry_run, out=out) for file in files]
    return 0 if all(results) else 1


def _files(folder: Path) -> list[_File]:
    return [
        _File(path, "_shared" if path.stem == _SHARED_STEM else path.stem, _FORMATS[path.suffix])
        for path in (sorted(folder.iterdir()) if folder.is_dir() else ())
        if path.is_file() and path.suffix in _FORMATS
    ]


async def _sent(
    session: aiohttp.ClientSession, url: str, file: _File, *, dry_run: bool, out: TextIO
) -> bool:
    query = {
        "service_name": file.service,
        "format": file.format,
        "dry_run": str(dry_run).lower(),
        "comment": f"imported from {file.path.name}",
    }
    try:
        async with session.post(
            f"{url.rstrip('/')}/api/v1/import", params=query, data=file.path.read_bytes()
        ) as answer:
            return _told(file, answer.status, await answer.json(content_type=None), out)
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
        print(f"{file.path.name}: {error or 'no answer in time'}", file=out)
        return False


def _told(file: _File, status: int, answer: dict[str, Any], out: TextIO) -> bool:
    if status != 200:  # noqa: PLR2004 - an HTTP status is its own name
        print(f"{file.path.name}: {answer.get('detail', status)}", file=out)
        return False
    for document in answer["documents"]:
        where = f"{document['environment']}/{document['service_name']}"
        changes = document["changes"]
        counts = ", ".join(f"{len(changes[kind])} {kind}" for kind in ("added", "changed"))
        print(f"{file.path.name}: {where}: {document['status']}, {counts}", file=out)
        if document["error"]:
            print(f"  {document['error']['detail']}", file=out)
    return all(document["status"] != "failed" for document in answer["documents"])
