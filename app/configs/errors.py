"""Errors of configurations."""

from collections.abc import Callable, Sequence

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
from pilothouse_core.credentials import RULES, CredentialRule
from pilothouse_core.keys import KEY_GRAMMAR
from pilothouse_core.names import INSTANCE_GRAMMAR, NAME_GRAMMAR, USER_GRAMMAR

_MOST_LINKS = 60  # of a cycle of placeholders
MOST_FOUND = 100  # credentials that one answer lists


class BadName(Invalid):
    code = "bad_name"

    def __init__(self, what: str, text: str) -> None:
        grammars = {"a user": USER_GRAMMAR, "an instance": INSTANCE_GRAMMAR}
        grammar = grammars.get(what, NAME_GRAMMAR)
        super().__init__(f"{text[:80]!r} is not a valid name of {what}: {grammar}")


class AddressContradicts(Invalid):
    """Query and body name two layers."""

    code = "address_contradicts"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} of the body contradicts the query: name one layer")
        detail = "This contradicts the query"
        self.flaws = [{"pointer": f"#/{name}", "detail": detail, "code": "contradiction"}]


class CopyOntoItself(Invalid):
    code = "copy_onto_itself"

    def __init__(self, where: str) -> None:
        super().__init__(f"{where} is both the source and the target of the copy")


class BadKey(Invalid):
    code = "bad_key"

    def __init__(self, key: str) -> None:
        super().__init__(f"{key[:80]!r} is not a valid key: {KEY_GRAMMAR}", key=key[:80])


class KeyTwice(Invalid):
    """One body gives one key two values, in two spellings."""

    code = "key_twice"

    def __init__(self, key: str) -> None:
        super().__init__(f"{key[:80]!r} is given twice, with different values", key=key[:80])


class BadMember(Invalid):
    code = "bad_member"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"at {key[:80]!r}: the members `$secret` and `$value` are reserved; a secret is "
            '{"$secret": {"value": ...}} or {"$secret": "masked"}, and `$value` is a '
            "section's own value, never an object",
            key=key[:80],
        )


class NothingMasked(Invalid):
    code = "nothing_masked"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"{key!r} is sent as a masked secret, but this layer holds no secret there, or none "
            "that can be identified: send its value",
            key=key,
        )


class CredentialInPlainValue(Invalid):
    """Each item of `found` is (document, key, rule).

    `pointer_of` maps a key to the JSON pointer of its value in the request body, "" if unknown.
    """

    code = "credential_in_plain_value"

    def __init__(
        self,
        credentials: Sequence[tuple[str, str, CredentialRule]],
        pointer_of: Callable[[str], str] = lambda _: "",
    ) -> None:
        where, key, rule = credentials[0]
        others = f" ({len(credentials)} are found in all)" if len(credentials) > 1 else ""
        super().__init__(
            f"{key!r} of {where} would plainly be {RULES[rule]}{others}: send it with "
            "is_encrypted, or name it in PLAIN_VALUES_ALLOWED",
            key=key,
            rule=rule,
        )
        self.found = credentials
        self.flaws = [
            {
                **({"pointer": pointer} if pointer else {}),
                "detail": f"{key!r} of {where} would plainly be {RULES[rule]}",
                "code": rule,
            }
            for where, key, rule in credentials[:MOST_FOUND]
            for pointer in [pointer_of(key)]
        ]


class KeyConflict(Conflict):
    code = "key_conflict"

    def __init__(self, outer: str, inner: str) -> None:
        super().__init__(
            f"{outer!r} cannot hold a value and be the section of {inner!r} at once",
            keys=[outer, inner],
        )


class PlaceholderCycle(Conflict):
    """Placeholders refer to each other in a cycle."""

    code = "placeholder_cycle"

    def __init__(self, where: str, keys: Sequence[str]) -> None:
        chain = " -> ".join(key[:80] for key in keys[:_MOST_LINKS])
        super().__init__(
            f"the placeholders of {where} form a cycle: {chain}", keys=list(keys[:_MOST_LINKS])
        )


class PlaceholderLimit(Conflict):
    """Resolving would nest too deeply, or expand to too much text."""

    code = "placeholder_limit"

    def __init__(self, where: str, key: str, reason: str) -> None:
        super().__init__(f"in {where}: {reason}", key=key[:80])


class ContradictoryOptions(Invalid):
    code = "contradictory_options"


class ListItem(Conflict):
    code = "list_item"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"{key[:80]!r} is an item of a list; items cannot be removed or restored alone: "
            "write the whole list",
            key=key[:80],
        )


class KeyExists(Conflict):
    code = "key_exists"

    def __init__(self, key: str, where: str) -> None:
        super().__init__(f"{key!r} already exists in {where}", key=key)


class KeyNotFound(NotFound):
    code = "key_not_found"

    def __init__(self, key: str, where: str) -> None:
        super().__init__(f"{where} has no key {key!r}", key=key)


class ReleaseRunning(Conflict):
    """A release changes this key, this layer or this flag, and has not ended yet."""

    code = "release_running"

    def __init__(self, release: str, what: str, **facts: str) -> None:
        super().__init__(
            f"{what} is changed by the release {release}, which has not ended yet: wait for its "
            "end, or abort it",
            release=release,
            **facts,
        )


class DocumentExists(Conflict):
    code = "document_exists"

    def __init__(self, where: str) -> None:
        super().__init__(f"{where} already exists")


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

    def __init__(self, where: str, version: int, reason: str, key: str | None = None) -> None:
        at = "" if key is None else f"at {key[:80]!r}: "
        super().__init__(
            f"version {version} of {where} was not written by Pilothouse and cannot "
            f"be parsed ({at}{reason}): replace it or roll back",
            version=version,
            reason=reason,
            **({} if key is None else {"key": key[:80]}),
        )
        self.version, self.reason, self.key = version, reason, key


class DocumentTooLarge(TooLarge):
    code = "document_too_large"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the document would take {size} bytes, {limit} are allowed")


class TooManyKeys(TooLarge):
    code = "too_many_keys"

    def __init__(self, keys: int, sections: int) -> None:
        super().__init__(
            f"a document holds at most {keys} keys, in at most {sections} sections",
            limit_keys=keys,
        )


class WriteClosed(Conflict):
    """An item of a proposal was refused before, and is not written any more."""

    code = "write_closed"

    def __init__(self, document: str) -> None:
        super().__init__(f"the write of {document} was refused before")


class WriteConflict(Conflict):
    code = "write_conflict"

    def __init__(self, where: str) -> None:
        super().__init__(f"{where} is being written concurrently; nothing was changed")


class StaleWrite(PreconditionFailed):
    code = "stale_version"

    def __init__(self, where: str, current: int) -> None:
        super().__init__(f"{where} is at version {current}", current_version=current)


class WriteOutcomeUnknown(OutcomeUnknown):
    code = "write_outcome_unknown"

    def __init__(self, intent: str) -> None:
        super().__init__(
            "the store did not answer the write; read its outcome from /api/v1/writes",
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
    """Compare-and-set failed: version base + 1 exists already. Never leaves the write path."""


class WriteUnanswered(Exception):
    """The write may or may not have been stored. Never leaves the write path."""


class VersionUnreadable(Exception):
    """The version was deleted, destroyed or pruned in the store; never leaves the feature."""


class VersionMissing(Exception):
    """The store has no such version (yet, or any more); never leaves the feature."""
