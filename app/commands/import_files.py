"""`python -m app import DIR`: sends a folder of files to a running service."""

from pathlib import Path
from typing import Any, TextIO

import aiohttp

from pilothouse_core.file_placement import ENDINGS, Placement, place_files

_SUBFOLDER = "it is no file; a folder is imported by itself"
_SECONDS = 60


async def import_folder(
    folder: Path, url: str, token: str | None = None, *, dry_run: bool, out: TextIO
) -> int:
    """Import every known file in `folder`; return 0 if all went well, 1 if any did not.

    The name of a file decides its layer, see `pilothouse_core.file_placement`. Files that are not
    imported are named. The token is shown to the service at `url`.
    """
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        names, left_out = _list_folder(folder)
        environments, services = await _existing_names(session, url) if names else (set(), set())
        placed = place_files(names, environments=environments, services=services)
        for name, reason in sorted([*placed.left_out, *left_out]):
            print(f"{name}: not imported: {reason}", file=out)
        if not placed.files:
            print(f"{folder} is no folder with a {', '.join(ENDINGS)} file in it", file=out)
            return 1
        results = [
            await _send_file(session, url, folder, file, dry_run=dry_run, out=out)
            for file in placed.files
        ]
    return 0 if all(results) else 1


def _list_folder(folder: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the names of the files in a folder, and what else is there with the reason."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    return (
        [path.name for path in inside if path.is_file()],
        [(path.name, _SUBFOLDER) for path in inside if not path.is_file()],
    )


async def _existing_names(session: aiohttp.ClientSession, url: str) -> tuple[set[str], set[str]]:
    """Return the environments and services of the documents there are, as far as may be seen."""
    environments: set[str] = set()
    services: set[str] = set()
    query = {"limit": "1000"}
    try:
        while True:
            address = f"{url.rstrip('/')}/api/configs"
            async with session.get(address, params=query) as answer:
                page = await answer.json(content_type=None)
            for item in page.get("items", ()):
                environments.add(item["environment"])
                services.add(item["service_name"])
            if not page.get("next"):
                break
            query["cursor"] = page["next"]
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError):
        pass  # each file will say so
    return environments - {"default"}, services - {"_shared"}


async def _send_file(
    session: aiohttp.ClientSession,
    url: str,
    folder: Path,
    file: Placement,
    *,
    dry_run: bool,
    out: TextIO,
) -> bool:
    query = {
        "service_name": file.service,
        "format": file.form,
        "dry_run": str(dry_run).lower(),
        "comment": f"imported from {file.name}",
    }
    if file.environment is not None:
        query["environment"] = file.environment
    try:
        async with session.post(
            f"{url.rstrip('/')}/api/v1/import", params=query, data=(folder / file.name).read_bytes()
        ) as answer:
            return _print_result(file, answer.status, await answer.json(content_type=None), out)
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
        print(f"{file.name}: {error or 'no answer in time'}", file=out)
        return False


def _print_result(file: Placement, status: int, answer: dict[str, Any], out: TextIO) -> bool:
    if status != 200:  # noqa: PLR2004 - an HTTP status is its own name
        print(f"{file.name}: {answer.get('detail', status)}", file=out)
        return False
    if file.note:
        print(f"{file.name}: taken for {file.note}", file=out)
    for note in answer.get("notes", ()):
        print(f"{file.name}: {note}", file=out)
    for document in answer["documents"]:
        where = f"{document['environment']}/{document['service_name']}"
        changes = document["changes"]
        counts = ", ".join(f"{len(changes[kind])} {kind}" for kind in ("added", "changed"))
        print(f"{file.name}: {where}: {document['status']}, {counts}", file=out)
        if document["error"]:
            print(f"  {document['error']['detail']}", file=out)
    return all(document["status"] != "failed" for document in answer["documents"])
