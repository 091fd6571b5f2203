"""Versions from the store: parsed, checked and, if written past this service, completed."""

import asyncio
from dataclasses import dataclass, field, replace
from itertools import takewhile

from app.changes.follower import Follower
from app.changes.model import EXTERNAL_ACTOR
from app.configs.documents.key_facts import key_facts
from app.configs.documents.members import tree_of
from app.configs.errors import (
    BadKey,
    DocumentMalformed,
    KeyConflict,
    VersionGone,
    VersionMissing,
    VersionUnreadable,
)
from app.configs.model import Body, DocumentId, Stamp, decode
from app.configs.secrets import find_bad_secret
from app.configs.store.port import ConfigStore
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.keys import key_of
from pilothouse_core.strict_json import BadJson

EXTERNAL_STEPS = 20  # versions in a row that are looked at for one that is ours
_STORE_READS_AT_ONCE = 24


def _bulkhead() -> asyncio.Semaphore:
    return asyncio.Semaphore(_STORE_READS_AT_ONCE)


@dataclass(frozen=True, slots=True)
class VersionFetcher:
    """`max_versions`: how many versions the store keeps."""

    store: ConfigStore
    follower: Follower
    max_versions: int
    _bulkhead: asyncio.Semaphore = field(default_factory=_bulkhead)

    async def fetch(self, document: DocumentId, version: int, steps: int = EXTERNAL_STEPS) -> Body:
        """Return one version; raises VersionGone, DocumentMalformed and StoreUnavailable.

        `steps`: how many versions before it may be fetched to complete it.
        """
        text = await self._text(document, version)
        if text is None:
            raise DocumentMalformed(str(document), version, "it has no text named 'document'")
        try:
            body = await run_apart(len(text) > LARGE_TEXT, decode, text)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            flaw, key = _flaw_text(error), _key_of(error)
            raise DocumentMalformed(str(document), version, flaw, key) from error
        bad = await run_apart(len(text) > LARGE_TEXT, find_bad_secret, body.data)
        if bad is not None:
            key, reason = bad
            raise DocumentMalformed(str(document), version, reason, key)
        if body.version != version:
            return await self._complete_external(document, version, body, steps)
        return body

    async def _text(self, document: DocumentId, version: int) -> str | None:
        try:
            async with self._bulkhead:
                return await self.store.read(document, version)
        except (VersionMissing, VersionUnreadable) as error:
            raise VersionGone(str(document), version) from error

    async def _complete_external(
        self, document: DocumentId, version: int, body: Body, steps: int
    ) -> Body:
        """Complete a version written past this service: its key facts are those of another version.

        What the edit changed is found by comparing with the version before it.
        """
        before = await self._version_before(document, version, steps)
        try:
            data = await run_apart(body.size > LARGE_TEXT, tree_of, body.data)
        except (BadKey, KeyConflict) as error:
            keys = error.facts.get("key") or error.facts.get("keys")
            key = keys[-1] if isinstance(keys, list) else keys
            raise DocumentMalformed(str(document), version, str(error), str(key)) from error
        pointer = self.follower.pointer(document.path)
        # The stored time is that of the copied version; the log knows when it was found.
        at = pointer.at.isoformat() if pointer and pointer.version == version else ""
        keep = self.max_versions
        facts = await run_apart(
            body.size > LARGE_TEXT, key_facts, before, data, version, EXTERNAL_ACTOR, at, keep=keep
        )
        stamp = Stamp("", "external", EXTERNAL_ACTOR, "", at)
        return replace(body, version=version, change=stamp, data=data, keys=facts)

    async def _version_before(self, document: DocumentId, version: int, steps: int) -> Body | None:
        if version == 1 or steps == 0:
            return None
        try:
            return await self.fetch(document, version - 1, steps - 1)
        except (VersionGone, DocumentMalformed):
            return None


def _flaw_text(error: Exception) -> str:
    """Describe the flaw of a stored text without quoting its values."""
    match error:
        case BadJson():
            return error.reason
        case KeyError():
            return f"its member {error.args[0]!r} is missing"
        case _:
            return "its members are not those of a document"


def _key_of(error: Exception) -> str | None:
    """Return the key at which a stored text has the flaw, if it is known."""
    match getattr(error, "place", ()):
        case ("data", *steps):
            names = takewhile(lambda step: isinstance(step, str), steps)
            return key_of([str(name) for name in names])
    return None
