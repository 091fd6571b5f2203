"""What can be wrong with a configuration, or with what is asked of it."""

from collections.abc import Sequence

from app.errors import (
    Conflict,
    Gone,
    Invalid,
    NotFound,
    OutcomeUnknown,
    PreconditionFailed,
    TooLarge,
    Unavailable,
)
from pilothouse_core.credentials import RULES, Rule

MOST_FOUND = 100  # credentials that one answer tells of


class BadName(Invalid):
    code = "bad_name"

    def __init__(self, what: str, text: str) -> None:
        super().__init__(f"{text[:80]!r} cannot name {what}")


class BadKey(Invalid):
    code = "bad_key"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"{key[:80]!r} is not a key: dotted segments of [A-Za-z0-9_-]{{1,64}}, "
            "at most 256 characters in all",
            key=key[:80],
        )


class BadMember(Invalid):
    code = "bad_member"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"at {key[:80]!r}: members that start with '$' are kept for "
            '{"$secret": {"value": ...}} and {"$secret": "masked"} as the whole value of a key',
            key=key[:80],
        )


class NothingMasked(Invalid):
    code = "nothing_masked"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"{key!r} is sent as a masked secret, but this layer holds no secret there", key=key
        )


class CredentialInPlainValue(Invalid):
    """What is found: (document, key, rule, where in the body, as a pointer) each."""

    code = "credential_in_plain_value"

    def __init__(self, found: Sequence[tuple[str, str, Rule, str]]) -> None:
        where, key, rule, _ = found[0]
        others = f" ({len(found)} are found in all)" if len(found) > 1 else ""
        super().__init__(
            f"{key!r} of {where} would plainly be {RULES[rule]}{others}: send it with "
            "is_encrypted, or name it in PLAIN_VALUES_ALLOWED",
            key=key,
            rule=rule,
        )
        self.found = found
        self.flaws = [
            {
                **({"pointer": pointer} if pointer else {}),
                "detail": f"{key!r} of {where} would plainly be {RULES[rule]}",
                "code": rule,
            }
            for where, key, rule, pointer in found[:MOST_FOUND]
        ]


class KeyConflict(Conflict):
    code = "key_conflict"

    def __init__(self, outer: str, inner: str) -> None:
        super().__init__(
            f"{outer!r} cannot hold a value and be the section of {inner!r} at once",
            keys=[outer, inner],
        )


class KeyExists(Conflict):
    code = "key_exists"

    def __init__(self, key: str, where: str) -> None:
        super().__init__(f"{key!r} exists in {where} already", key=key)


class KeyNotFound(NotFound):
    code = "key_not_found"

    def __init__(self, key: str, where: str) -> None:
        super().__init__(f"{where} has no key {key!r}", key=key)


class DocumentExists(Conflict):
    code = "document_exists"

    def __init__(self, where: str) -> None:
        super().__init__(f"{where} exists already")


class DocumentNotFound(NotFound):
    code = "document_not_found"

    def __init__(self, where: str) -> None:
        super().__init__(f"{where} does not exist")


class VersionNotFound(NotFound):
    code = "version_not_found"

    def __init__(self, where: str, version: int) -> None:
        super().__init__(f"{where} has no version {version}", version=version)


class VersionGone(Gone):
    code = "version_gone"

    def __init__(self, where: str, version: int) -> None:
        super().__init__(
            f"version {version} of {where} is no longer kept by the store", version=version
        )


class VersionIsDeletion(Gone):
    code = "version_is_deletion"

    def __init__(self, where: str, version: int) -> None:
        super().__init__(f"version {version} is the deletion of {where}", version=version)


class DocumentMalformed(Conflict):
    code = "document_malformed"

    def __init__(self, where: str, version: int) -> None:
        super().__init__(
            f"version {version} of {where} was written past this service and is no document of "
            "its own: replace it or roll back",
            version=version,
        )
        self.version = version


class DocumentTooLarge(TooLarge):
    code = "document_too_large"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the document would take {size} bytes, {limit} are allowed")


class WriteConflict(Conflict):
    code = "write_conflict"

    def __init__(self, where: str) -> None:
        super().__init__(f"others kept writing {where}; nothing was changed")


class StaleWrite(PreconditionFailed):
    code = "stale_version"

    def __init__(self, where: str, current: int) -> None:
        super().__init__(f"{where} is at version {current}", current_version=current)


class WriteOutcomeUnknown(OutcomeUnknown):
    code = "write_outcome_unknown"

    def __init__(self, intent: str) -> None:
        super().__init__(
            "the write was sent and not answered; ask /api/v1/writes for its outcome",
            intent=intent,
        )


class StoreUnavailable(Unavailable):
    code = "config_store_unavailable"


class DocumentLost(Unavailable):
    code = "document_lost"
    retry_after = 30

    def __init__(self, where: str, version: int) -> None:
        super().__init__(f"the store no longer has the current version {version} of {where}")


class SecretUnreadable(Unavailable):
    code = "secret_unreadable"
    retry_after = 30


class VersionTaken(Exception):
    """Compare-and-set failed: somebody wrote base + 1; never leaves the write path."""


class WriteUnanswered(Exception):
    """The write may or may not have landed; never leaves the write path."""


class VersionUnreadable(Exception):
    """The version was deleted, destroyed or pruned in the store; never leaves the feature."""


class VersionMissing(Exception):
    """The store has no such version (yet, or any more); never leaves the feature."""
