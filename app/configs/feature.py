"""Builds the configurations' part of the service."""

import asyncio
from dataclasses import dataclass

from app.changes.turns import in_turns
from app.configs.api.fast_path import ConfigFastPath, FastEffective, FastKey
from app.configs.api.problem_codes import PROBLEM_CODES
from app.configs.api.router_copy import router as copy_router
from app.configs.api.router_documents import router as documents_router
from app.configs.api.router_keys import router as keys_router
from app.configs.api.router_templates import router as templates_router
from app.configs.api.router_transfer import router as transfer_router
from app.configs.api.router_validate import router as validate_router
from app.configs.checks.credentials import CredentialPolicy, Exemption
from app.configs.documents.cache import DocumentCache
from app.configs.documents.candidates import NO_CANDIDATES, Candidates
from app.configs.documents.configurations import StoredConfigurations
from app.configs.documents.document_judge import DocumentJudge
from app.configs.documents.effective import EffectiveReader
from app.configs.documents.overlays import OverlaidReader
from app.configs.documents.reader import DocumentReader
from app.configs.documents.recovery import RECONCILE_SECONDS, Reconciler, Scanner
from app.configs.documents.writer import DocumentWriter
from app.configs.formats import read_yaml
from app.configs.services.documents import DocumentService
from app.configs.services.key_history import KeyHistory
from app.configs.services.keys import KeyService
from app.configs.services.previews import PreviewService
from app.configs.services.reveal import RevealService
from app.configs.services.template_uses import TemplateUses, UsingDocuments
from app.configs.services.transfer import TransferService
from app.configs.store.port import Cipher, ConfigStore
from app.feature import Feature, Routes, Task
from app.foundation import Foundation
from app.rules.feature import Rules
from app.web.path_rules import PathRules

CONFIG_ROUTES = Routes(
    routers=(
        keys_router,
        documents_router,
        transfer_router,
        copy_router,
        validate_router,
        templates_router,
    ),
    path_rules=PathRules(foreign_segments={"kv": "config"}),
    problem_codes=PROBLEM_CODES,
)


@dataclass(frozen=True, slots=True)
class Configs:
    reader: DocumentReader
    configurations: StoredConfigurations
    writer: DocumentWriter
    previews: PreviewService
    feature: Feature


def build_configs(
    base: Foundation,
    rules: Rules,
    store: ConfigStore,
    cipher: Cipher,
    candidates: Candidates = NO_CANDIDATES,
) -> Configs:
    settings, log, turns = base.settings, base.changes.log, base.changes.maintenance
    reader = _build_reader(base, store)
    layers = EffectiveReader(reader, memory_bytes=settings.cache_memory_bytes // 2)
    judge = DocumentJudge(rules.judge, layers)
    overlaid = OverlaidReader(layers, candidates, memory_bytes=settings.cache_memory_bytes // 8)
    writer = _build_writer(base, rules, (store, cipher), reader, judge, candidates)
    fast_path = _build_fast_path(base, overlaid)
    keys = KeyService(reader, overlaid, rules.catalog)
    previews = PreviewService(writer.drafter, judge, writer.composer, rules.policies)
    transfer = TransferService(reader, writer, previews)
    using = UsingDocuments(reader)
    reconciler = Reconciler(store, base.changes.intents, writer.advancer)
    scanner = Scanner(store, reader, writer)
    scan_seconds = settings.vault_scan_interval
    feature = Feature(
        state={
            "writer": writer,
            "keys": keys,
            "key_history": KeyHistory(reader),
            "reveals": RevealService(keys, cipher, log),
            "documents": DocumentService(reader, log),
            "transfer": transfer,
            "template_uses": TemplateUses(
                reader, rules.templates, transfer, using, judge.secret_keys
            ),
            "previews": previews,
            "read_yaml": read_yaml,
        },
        fast_gets=(FastKey(fast_path), FastEffective(fast_path)),
        tasks={
            "tidy": _tidy_memory(overlaid, fast_path, scan_seconds),
            "reconcile": in_turns(turns, "reconcile", RECONCILE_SECONDS, reconciler.reconcile),
            "scan": in_turns(turns, "scan", scan_seconds, scanner.scan),
        },
        facts=lambda: {
            "malformed_documents": layers.last_good.malformed_count,
            "expiring_documents": scanner.expiring,
        },
    )
    return Configs(reader, StoredConfigurations(layers), writer, previews, feature)


def _build_fast_path(base: Foundation, overlaid: OverlaidReader) -> ConfigFastPath:
    settings = base.settings
    return ConfigFastPath.over(
        overlaid,
        base.fresh,
        settings.cache_memory_bytes // 4,
        tells_source=settings.pilothouse_mode == "development",
    )


def _build_reader(base: Foundation, store: ConfigStore) -> DocumentReader:
    settings = base.settings
    return DocumentReader(
        store,
        base.changes.follower,
        DocumentCache(base.cache, max_versions=settings.vault_max_versions),
        max_versions=settings.vault_max_versions,
        memory_bytes=settings.cache_memory_bytes // 2,
        seconds=settings.read_seconds,
    )


def _build_writer(
    base: Foundation,
    rules: Rules,
    ports: tuple[ConfigStore, Cipher],
    reader: DocumentReader,
    judge: DocumentJudge,
    candidates: Candidates,
) -> DocumentWriter:
    settings = base.settings
    store, cipher = ports
    exemptions = [Exemption(*parts) for parts in settings.allowances]
    return DocumentWriter(
        store,
        base.changes.intents,
        base.changes.log,
        cipher,
        reader,
        max_versions=settings.vault_max_versions,
        fingerprints=base.audit.fingerprints,
        credential_policy=CredentialPolicy(settings.production_patterns, exemptions),
        judge=judge,
        policies=rules.policies,
        candidates=candidates,
        seconds=settings.write_seconds,
    )


def _tidy_memory(overlaid: OverlaidReader, fast_path: ConfigFastPath, every: float) -> Task:
    """Return a task that drops superseded documents from memory, and finds malformed ones."""
    layers = overlaid.layers

    async def run() -> None:
        while True:
            await asyncio.sleep(every)
            await layers.reader.versions.forget_superseded()
            await layers.forget_superseded()
            await overlaid.forget_superseded()
            await fast_path.forget_superseded()
            await layers.last_good.find_malformed()

    return run
