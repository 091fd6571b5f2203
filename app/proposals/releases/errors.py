"""What is wrong with a release, or with what is asked of one."""

from app.errors import Conflict, Invalid, NotFound, Unavailable


class BadRelease(Invalid):
    """The plan of a release cannot be used; the flaw has the place in it."""

    code = "bad_release"

    def __init__(self, pointer: str, reason: str, prefix: str = "") -> None:
        super().__init__(f"the release cannot be started: {reason}")
        self.flaws = ({"pointer": f"#{prefix}{pointer}", "detail": reason, "code": self.code},)


class NotReleasable(Invalid):
    """What is to be released is not one layer of one service in one environment."""

    code = "not_releasable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"this cannot be released step by step: {reason}")


class ReleaseNotFound(NotFound):
    """No such release, or one that the caller may not read."""

    code = "release_not_found"

    def __init__(self, release: str) -> None:
        super().__init__(f"there is no release {release[:80]!r}")


class TooManyReleases(Conflict):
    """As many releases are running as may be."""

    code = "too_many_releases"

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} releases have not ended yet; there are at most as many")


class ReleaseEnded(Conflict):
    """The release cannot be changed any more: it has ended, or is being written."""

    code = "release_ended"

    def __init__(self, release: str, state: str) -> None:
        super().__init__(f"the release {release} is {state}", state=state)


class ReleaseMoved(Conflict):
    """Another caller or controller has changed the release in the meantime."""

    code = "release_moved"

    def __init__(self, release: str, version: int) -> None:
        super().__init__(f"the release {release} is at version {version}", version=version)


class ReleasesUnavailable(Unavailable):
    """The store of releases does not answer."""

    code = "releases_unavailable"
