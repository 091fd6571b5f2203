"""Errors of flags and segments."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, Self

from app.errors import Conflict, Invalid, NotFound, PreconditionFailed, TooLarge, Unavailable
from pilothouse_core.contexts import MAX_CONTEXT_BYTES
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.names import NAME_GRAMMAR
from pilothouse_core.suggestions import did_you_mean

_FLAWS_SHOWN = 100


class FlagsUnavailable(Unavailable):
    code = "flags_unavailable"


class ContextTooLarge(TooLarge):
    code = "context_too_large"

    def __init__(self) -> None:
        super().__init__(
            f"an evaluation context has at most {MAX_CONTEXT_BYTES} bytes as JSON",
            limit_bytes=MAX_CONTEXT_BYTES,
        )


class EvaluationTooLong(Unavailable):
    """Evaluating the flags for this context takes longer than a request may."""

    code = "evaluation_too_long"

    def __init__(self) -> None:
        super().__init__("the requested flags could not be evaluated in time")


class SetMoved(Conflict):
    """Another writer committed first; nothing was written, and the commit may be tried again."""

    code = "flag_set_moved"

    def __init__(self, revision: int) -> None:
        super().__init__(f"the flags were changed in the meantime, at revision {revision}")
        self.revision = revision


class KeyTaken(Conflict):
    """Another request committed under this idempotency key."""

    code = "idempotency_key_taken"

    def __init__(self) -> None:
        super().__init__("another request with this Idempotency-Key was answered in the meantime")


class FlagNotFound(NotFound):
    code = "flag_not_found"

    def __init__(self, name: str, environment: str, known: Iterable[str] = ()) -> None:
        """`known`: the names of the existing flags."""
        super().__init__(
            f"{environment} has no flag {name!r}{did_you_mean(name, known)}",
            flag=name,
            environment=environment,
        )


class SegmentNotFound(NotFound):
    code = "segment_not_found"

    def __init__(self, name: str, environment: str, known: Iterable[str] = ()) -> None:
        """`known`: the names of the existing segments."""
        super().__init__(
            f"{environment} has no segment {name!r}{did_you_mean(name, known)}",
            segment=name,
            environment=environment,
        )


class FlagExists(Conflict):
    code = "flag_exists"

    def __init__(self, kind: str, name: str, environment: str) -> None:
        super().__init__(f"{environment} already has a {kind} {name!r}", name=name)


class FlagArchived(Conflict):
    """The flag to be written is archived; nothing was changed."""

    code = "flag_archived"

    def __init__(self, name: str, environment: str) -> None:
        super().__init__(
            f"the flag {name!r} of {environment} is archived: restore it, or delete it permanently",
            name=name,
        )


class FlagNotArchived(Conflict):
    code = "flag_not_archived"

    def __init__(self, name: str, environment: str) -> None:
        super().__init__(f"the flag {name!r} of {environment} is not archived", name=name)


class FlagVersionNotFound(NotFound):
    code = "flag_version_not_found"

    def __init__(self, name: str, environment: str, version: int) -> None:
        super().__init__(
            f"the flag {name!r} of {environment} has no version {version}", version=version
        )


class FlagVersionIsDeletion(Conflict):
    """The version to roll back to is a deletion; nothing was changed."""

    code = "flag_version_is_deletion"

    def __init__(self, name: str, environment: str, version: int) -> None:
        super().__init__(
            f"version {version} of the flag {name!r} of {environment} is a deletion",
            version=version,
        )


class ReferencesMissing(Invalid):
    """A flag needs flags or segments that its new environment does not have."""

    code = "flag_references_missing"

    def __init__(self, name: str, environment: str, missing: Sequence[tuple[str, str]]) -> None:
        """`missing` has pointers into the flag, with the reason for each."""
        super().__init__(
            f"{environment} lacks flags or segments that {name!r} needs (see `errors`); nothing "
            "was changed"
        )
        self.flaws = tuple(
            {"pointer": f"#{pointer}", "detail": detail, "code": "missing_reference"}
            for pointer, detail in missing[:_FLAWS_SHOWN]
        )


class FlagInUse(Conflict):
    """A flag, variant or segment to be removed is still referenced; nothing was changed."""

    code = "flag_in_use"

    def __init__(self, reason: str, users: Sequence[str]) -> None:
        super().__init__(reason, users=list(users)[:100])


class FlagTypeInUse(Conflict):
    """The type of a flag in use would change; nothing was changed."""

    code = "flag_type_in_use"

    def __init__(self, name: str, present: str, last_evaluated_at: datetime) -> None:
        super().__init__(
            f"{name!r} is evaluated as {present}: programs that use it would get their default "
            "after a change of its type. Create a new flag, or repeat the request with force=true",
            last_evaluated_at=last_evaluated_at.isoformat(),
        )


class FlagStale(PreconditionFailed):
    code = "flag_version_mismatch"

    def __init__(self, version: int) -> None:
        super().__init__(f"the current version is {version}", current_version=version)


class FlagContended(Unavailable):
    """Other writers of the environment took all of the deadline; nothing was changed."""

    code = "flag_set_contended"

    def __init__(self, environment: str, seconds: float) -> None:
        super().__init__(
            f"the write waited for {seconds:g} s for other writers of {environment}; "
            "nothing was changed"
        )


class BadDefinition(Invalid):
    """A flag or segment breaks a rule; `flaws` names the place."""

    code = "bad_flag"

    def __init__(self, pointer: str, detail: str, code: str, **facts: object) -> None:
        super().__init__(f"{pointer or 'the definition'} {detail}", **facts)
        self.flaws = ({"pointer": f"#{pointer}", "detail": detail, "code": code},)

    @classmethod
    def of(cls, error: DefinitionError) -> Self:
        return cls(error.pointer, error.detail, error.code)


class NotExpressed(Invalid):
    """Something has no equivalent in the other system; nothing was imported or exported."""

    code = "flags_not_expressed"

    def __init__(self, notes: Sequence[tuple[str, str, str]]) -> None:
        """Each note: the flag ("": the whole file), the pointer to the place, and the reason."""
        super().__init__(
            "not everything can be converted (see `errors`); a dry run lists all of it, and "
            "`leave_out=true` continues without the listed flags"
        )
        self.flaws = tuple(
            {
                "pointer": f"#{pointer}",
                "detail": f"{flag}: {reason}" if flag else reason,
                "code": "not_expressed",
            }
            for flag, pointer, reason in notes[:_FLAWS_SHOWN]
        )


class BadEnvironment(Invalid):
    code = "bad_environment"

    def __init__(self, text: str) -> None:
        super().__init__(f"{text[:80]!r} is not a valid name of an environment: {NAME_GRAMMAR}")


class ItemsMoved(Conflict):
    """Flags and segments have other versions, by kind and name, than a write was made for."""

    code = "flags_moved"

    def __init__(self, versions: Mapping[tuple[Literal["flag", "segment"], str], int]) -> None:
        self.versions = versions
        names = ", ".join(f"{kind} {name}" for kind, name in versions)
        super().__init__(f"changed in the meantime: {names[:500]}")
