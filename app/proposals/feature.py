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


def build_proposals(
    base: Foundation,
    rules: Rules,
    schemas: Schemas,
    configs: Configs,
    flags: Flags,
    ports: ProposalPorts,
) -> Proposals:
    handlers = _build_handlers(base, rules, schemas, configs, flags)
    reader = ProposalReader(ports.store, ports.bodies, handlers, base.access.lineage)
    # The applier and the decisions know each other: what is started here is continued here.
    decisions = DecisionService(reader)
    applier = Applier(
        reader,
        decisions,
        base.changes.maintenance,
        grace_seconds=base.settings.proposal_grace_seconds,
        started=decisions.started,
    )
    rounds = RoundService(reader)
    feature = Feature(
        state={
            "proposals": reader,
            "proposal_rounds": rounds,
            "proposal_decisions": decisions,
        },
        tasks={
            "apply_proposals": applier.run,
            "empty_orphans": in_turns(
                base.changes.maintenance,
                "empty_orphans",
                LOOK_SECONDS,
                OrphanRemover(ports.store, ports.bodies).empty_orphans,
            ),
        },
    )
    return Proposals(reader, rounds, decisions, feature)


def _build_handlers(
    base: Foundation, rules: Rules, schemas: Schemas, configs: Configs, flags: Flags
) -> dict[ItemKind, ItemHandler]:
    policies = rules.policies
    config_items = ConfigItems(
        configs.reader,
        base.changes.follower,
        configs.writer,
        configs.previews,
        configs.writer.composer,
        policies,
    )
    flag_items = FlagItems(flags.cache, flags.store, flags.writer, policies)
    writers: dict[Kind, DefinitionWriter] = {
        "schema": SchemaWriter(schemas.schemas),
        "template": ServiceWriter(rules.templates),
        "policy": ServiceWriter(schemas.policies),
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
