"""Upgrades of documents to another version of a template: one ordinary write for each of them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from app.configs.documents.attempt import Write
from app.configs.model import DocumentId
from app.configs.services.template_uses import TemplateUsed, TemplateUses
from app.errors import PilothouseError
from pilothouse_core.name_patterns import matches

MOST_UPGRADED: Final = 500  # documents, by one request
_AT_ONCE: Final = 8
UpgradeStatus = Literal["written", "unchanged", "refused"]


@dataclass(frozen=True, slots=True)
class UpgradeWanted:
    """The version to upgrade to, None for the current one, and patterns of documents."""

    to: int | None = None
    environments: Sequence[str] = ("*",)
    services: Sequence[str] = ("*",)
    dry_run: bool = False

    def covers(self, document: DocumentId) -> bool:
        return any(matches(pattern, document.environment) for pattern in self.environments) and any(
            matches(pattern, document.service) for pattern in self.services
        )


@dataclass(frozen=True, slots=True)
class UpgradeResult:
    """What became of one document; `before` is the version of the template it had."""

    document: DocumentId
    status: UpgradeStatus
    before: int
    used: TemplateUsed | None = None
    error: PilothouseError | None = None


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """The results by document.

    `remaining` counts documents that another request has to upgrade, `hidden` those that the
    caller may not read, `unreadable` those that cannot be read now.
    """

    to: int
    results: Sequence[UpgradeResult]
    remaining: int
    hidden: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class TemplateUpgrades:
    uses: TemplateUses

    async def upgrade(
        self,
        name: str,
        wanted: UpgradeWanted,
        write_of: Callable[[DocumentId], Write],
        may_read: Callable[[DocumentId], bool],
        allow: Callable[[DocumentId], None],
    ) -> UpgradeReport:
        """Upgrade the documents that use a template; what fails for one is reported with it.

        `allow` raises where the caller may not write. Raises TemplateNotFound,
        TemplateVersionNotFound and DefinitionsUnavailable before anything is written.
        """
        version = wanted.to
        if version is None:
            version = (await self.uses.templates.newest_current(name)).version
        await self.uses.templates.ready_version(name, version)
        uses = await self.uses.find(name)
        covered = {each: before for each, before in uses.versions.items() if wanted.covers(each)}
        readable = {each: before for each, before in covered.items() if may_read(each)}
        old = [each for each, before in readable.items() if before != version]
        results = [
            UpgradeResult(each, "unchanged", version)
            for each, before in readable.items()
            if before == version
        ]

        async def upgrade_one(document: DocumentId) -> UpgradeResult:
            before = readable[document]
            try:
                allow(document)
                used = await self.uses.apply(
                    name, version, None, write_of(document), dry_run=wanted.dry_run
                )
            except PilothouseError as error:
                return UpgradeResult(document, "refused", before, error=error)
            is_same = used.written.status == "unchanged"
            return UpgradeResult(document, "unchanged" if is_same else "written", before, used)

        upgraded = old[:MOST_UPGRADED]
        for begin in range(0, len(upgraded), _AT_ONCE):
            portion = upgraded[begin : begin + _AT_ONCE]
            results += await asyncio.gather(*map(upgrade_one, portion))
        return UpgradeReport(
            version,
            sorted(results, key=lambda each: (each.document.environment, each.document.service)),
            len(old) - len(upgraded),
            len(covered) - len(readable),
            uses.unreadable,
        )
