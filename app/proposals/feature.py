"""Builds the part of the service that has proposals."""

from dataclasses import dataclass

from app.changes.turns import in_turns
from app.configs.feature import Configs
from app.feature import Feature, Routes
from app.flags.feature import Flags
from app.foundation import Foundation
from app.proposals.api.problem_codes import PROBLEM_CODES
from app.proposals.api.router import router
from app.proposals.applier import Applier
from app.proposals.bodies.port import ProposalBodies
from app.proposals.decisions import DecisionService
from app.proposals.items.configs import ConfigItems
from app.proposals.items.definition_writers import SchemaWriter, ServiceWriter
from app.proposals.items.definitions import DefinitionItems, DefinitionWriter
from app.proposals.items.flags import FlagItems
from app.proposals.items.port import ItemHandler
from app.proposals.model import ItemKind
from app.proposals.orphans import LOOK_SECONDS, OrphanRemover
from app.proposals.reading import ProposalReader
from app.proposals.releases.feature import Releases
from app.proposals.releasing import LOOK_SECONDS as FOLLOW_SECONDS
from app.proposals.releasing import ReleasingService
from app.proposals.rounds import RoundService
from app.proposals.store.port import ProposalStore
from app.rules.definitions.model import Kind
from app.rules.feature import Rules, Schemas

PROPOSAL_ROUTES = Routes(routers=(router,), problem_codes=PROBLEM_CODES)


@dataclass(frozen=True, slots=True)
class ProposalPorts:
    store: ProposalStore
    bodies: ProposalBodies


@dataclass(frozen=True, slots=True)
class Proposals:
    reader: ProposalReader
    rounds: RoundService
    decisions: DecisionService
    feature: Feature


@dataclass(frozen=True, slots=True)
class Subjects:
    """What proposals are about, and how they are released."""

    configs: Configs
    flags: Flags
    schemas: Schemas
    releases: Releases


def build_proposals(
    base: Foundation, rules: Rules, subjects: Subjects, ports: ProposalPorts
) -> Proposals:
    config_items = _build_config_items(base, rules, subjects.configs)
    handlers = _build_handlers(rules, subjects, config_items)
    reader = ProposalReader(ports.store, ports.bodies, handlers, base.access.lineage)
    rounds, decisions = RoundService(reader), DecisionService(reader)
    applier = Applier(
        reader,
        decisions,
        base.changes.maintenance,
        grace_seconds=base.settings.proposal_grace_seconds,
        started=decisions.started,
    )
    releasing = ReleasingService(reader, decisions, subjects.releases.service, config_items)
    orphans = OrphanRemover(ports.store, ports.bodies)
    turns = base.changes.maintenance
    feature = Feature(
        state={
            "proposals": reader,
            "proposal_rounds": rounds,
            "proposal_decisions": decisions,
            "proposal_releases": releasing,
        },
        tasks={
            "apply_proposals": applier.run,
            "follow_releases": in_turns(turns, "follow_releases", FOLLOW_SECONDS, releasing.follow),
            "empty_orphans": in_turns(turns, "empty_orphans", LOOK_SECONDS, orphans.empty_orphans),
        },
    )
    return Proposals(reader, rounds, decisions, feature)


def _build_config_items(base: Foundation, rules: Rules, configs: Configs) -> ConfigItems:
    return ConfigItems(
        configs.reader,
        base.changes.follower,
        configs.writer,
        configs.previews,
        configs.writer.composer,
        rules.policies,
    )


def _build_handlers(
    rules: Rules, subjects: Subjects, config_items: ConfigItems
) -> dict[ItemKind, ItemHandler]:
    flags, policies = subjects.flags, rules.policies
    flag_items = FlagItems(flags.cache, flags.store, flags.writer, policies)
    writers: dict[Kind, DefinitionWriter] = {
        "schema": SchemaWriter(subjects.schemas.schemas),
        "template": ServiceWriter(rules.templates),
        "policy": ServiceWriter(subjects.schemas.policies),
    }
    definition_items = DefinitionItems(rules.catalog, rules.store, writers, policies)
    return {
        "config": config_items,
        "flag": flag_items,
        "segment": flag_items,
        "schema": definition_items,
        "template": definition_items,
        "policy": definition_items,
    }
