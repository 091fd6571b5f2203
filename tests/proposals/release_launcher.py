"""python -m tests.proposals.release_launcher: the service, which also starts releases by itself.

`POST /test/releases` starts one without a proposal. What it changes is kept as a file in the folder
RELEASE_BODIES, which all replicas read. At the point in RELEASE_FAILPOINT the process is killed.
"""

import asyncio
import json
import os
import signal
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, cast
from unittest.mock import patch

import uvicorn
from fastapi import APIRouter, Body

from app.access.caller import CurrentCaller
from app.configs.documents.edit_json import edit_from_json, edit_to_json
from app.configs.documents.edits import Edit, PatchKeys
from app.configs.documents.writer import DocumentWriter
from app.configs.errors import StoreUnavailable
from app.configs.model import document_id
from app.main import create_app
from app.proposals.releases.finish import ReleaseFinisher
from app.proposals.releases.model import Origin, Release
from app.proposals.releases.service import ReleaseService, new_release_id
from app.proposals.releases.store.postgres import PostgresReleaseStore
from app.web.connection import Protocol
from app.web.request_state import from_state
from pilothouse_core.releases.plan import read_plan

FOLDER = "RELEASE_BODIES"
router = APIRouter()


class FileBodies:
    def __init__(self, _: object = None) -> None:
        self._folder = Path(os.environ[FOLDER])

    def write(self, release: str, edit: Edit) -> None:
        (self._folder / release).write_text(json.dumps(edit_to_json(edit)), encoding="utf-8")

    async def read(self, release: Release) -> Edit:
        try:
            text = await asyncio.to_thread((self._folder / release.id).read_text, encoding="utf-8")
        except OSError as error:
            raise StoreUnavailable("there is no such file") from error
        return edit_from_json(json.loads(text))


@router.post("/test/releases", status_code=201)
async def start(
    body: Annotated[dict[str, Any], Body()],
    releases: Annotated[ReleaseService, from_state("releases")],
    caller: CurrentCaller,
) -> dict[str, str]:
    release_id = body.get("id") or new_release_id()
    edit = PatchKeys(body.get("set") or {}, tuple(body.get("unset") or ()))
    FileBodies().write(release_id, edit)
    release = await releases.start(
        document_id(body["environment"], body["service_name"], body.get("user")),
        edit,
        read_plan(body["plan"]),
        Origin(caller.actor(), caller.request_id),
        release_id=release_id,
    )
    return {"id": release.id, "state": release.state}


def killed_at(point: str, step: str, method: Any) -> Any:
    """Return the method, which ends this process at a point such as `after_move_2`."""
    place, name, number = point.split("_")
    calls = count(1)

    async def call(*arguments: Any) -> Any:
        is_here = name == step and next(calls) == int(number)
        if is_here and place == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = await method(*arguments)
        if is_here:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


def plant_failpoint(point: str) -> None:
    PostgresReleaseStore.move = killed_at(point, "move", PostgresReleaseStore.move)  # type: ignore[method-assign]
    finish = ReleaseFinisher.finish

    async def finish_with_failpoint(finisher: ReleaseFinisher, release: Release) -> None:
        write = killed_at(point, "write", finisher.writer.write)
        writer = cast("DocumentWriter", SimpleNamespace(write=write))
        await finish(replace(finisher, writer=writer), release)

    ReleaseFinisher.finish = finish_with_failpoint  # type: ignore[method-assign,assignment]


def main() -> None:
    if point := os.environ.get("RELEASE_FAILPOINT"):
        plant_failpoint(point)
    with patch("app.wiring.ProposedCandidates", FileBodies):
        app = create_app()
        app.include_router(router)
        # As `python -m app serve` does.
        config = uvicorn.Config(
            app,
            port=int(os.environ["PORT"]),
            log_config=None,
            access_log=False,
            http=Protocol,
            ws="none",
            proxy_headers=False,
            server_header=False,
        )
        uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
