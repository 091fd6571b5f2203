"""Where a real server comes from: the first way that can provide one; none at all is an error."""

from collections.abc import Callable, Mapping
from typing import Never, TypeVar

Server = TypeVar("Server")


class NotProvided(Exception):
    """One way cannot provide the server; the message names what is missing."""


class ServerMissing(Exception):
    """No way can provide the server. Tests that need it fail: a skipped test proves nothing."""


class NotOurs(Exception):
    """A test wants to interrupt a server that this run did not start."""


def first_provided(server: str, ways: Mapping[str, Callable[[], Server]]) -> Server:
    reasons = []
    for way, provide in ways.items():
        try:
            return provide()
        except NotProvided as missing:
            reasons.append(f"- {way} ({missing})")
    hint = f"there is no {server} to test against; provide it in one of these ways:"
    raise ServerMissing("\n".join([hint, *reasons]))


class ForeignServer:
    """A server named in the environment: others may use it, so it is never interrupted."""

    def __init__(self, variable: str) -> None:
        self._variable = variable

    def _refuse(self) -> Never:
        raise NotOurs(
            f"the server named by {self._variable} was not started by this run and is not ours to"
            f" interrupt; unset {self._variable} to run this test"
        )

    def freeze(self) -> None:
        self._refuse()

    def thaw(self) -> None:
        self._refuse()

    def kill(self) -> None:
        self._refuse()

    def stop(self) -> None:
        self._refuse()

    def restart(self) -> None:
        self._refuse()

    def close(self) -> None:
        """Leave it as it is."""
