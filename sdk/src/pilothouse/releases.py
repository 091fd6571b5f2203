"""How an instance takes part in releases: which arm it reads, and what it reports of it."""

import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pilothouse.errors import Forbidden, NotFound, PilothouseError, Unauthenticated
from pilothouse.transport import Transport
from pilothouse_core.releases.arms import arm_of

_READERS = "/api/v1/readers"
_log = logging.getLogger("pilothouse")


def instance_name(instance: str | bool | None) -> str | None:  # noqa: FBT001 - as the client's
    """Return the id that a client states: the given one, or for True the name of this machine."""
    if instance is True:
        return socket.gethostname()
    return instance or None


class Participant:
    """One instance of a service in an environment."""

    def __init__(
        self,
        instance: str,
        selection: Mapping[str, str],
        transport: Callable[[], Transport],
    ) -> None:
        self.instance = instance
        self._selection = selection
        self._transport = transport
        self._release: Mapping[str, Any] | None = None
        self._reported: tuple[str, str, str] | None = None
        self._is_silent = False  # the token may not report

    @property
    def release(self) -> Mapping[str, Any] | None:
        """The release, arm and step of the newest answer, None without a release."""
        return self._release

    @property
    def is_candidate(self) -> bool:
        return self._release is not None and self._release.get("arm") == "candidate"

    def note_answer(self, body: Mapping[str, Any]) -> None:
        release = body.get("release")
        self._release = release if isinstance(release, dict) else None

    def is_moved(self, change: Mapping[str, Any]) -> bool:
        """Tell whether a change of a release gives this instance another arm."""
        release = change.get("release")
        if not isinstance(release, dict):
            return True
        share = release.get("share")
        if not isinstance(share, int):  # instances are counted: only the service knows
            return True
        release_id = str(release.get("id"))
        becomes_candidate = arm_of(release_id, self.instance, share) == "candidate"
        is_candidate = self.is_candidate and (self._release or {}).get("id") == release_id
        return becomes_candidate != is_candidate

    async def report(
        self, outcome: Literal["adopted", "refused"], etag: str, code: str = ""
    ) -> None:
        """Report what became of an answer, once; never raises."""
        said = (outcome, etag, code)
        if self._is_silent or said == self._reported:
            return
        body: dict[str, Any] = {"instance": self.instance, "outcome": outcome, "code": code}
        if self._release is not None and self.is_candidate:
            path = f"/api/v1/releases/{self._release.get('id')}/reports"
            body["arm"] = "candidate"
        else:
            path = _READERS
            body |= self._selection
        try:
            await self._transport().request("POST", path, body=body)
        except (Forbidden, Unauthenticated) as error:
            self._is_silent = True
            _log.info("reports of what is read are not sent: %s", error.code)
        except NotFound:
            return  # the release, or the route of an older service
        except PilothouseError as error:
            _log.debug("a report was not sent: %s", error.code)
        else:
            self._reported = said
