"""Builds the part of the service that has flags and segments."""

from dataclasses import dataclass

from app.changes.retention import TRIM_SECONDS
from app.changes.turns import in_turns
from app.feature import Feature, Routes
from app.flags.api.fast_path import FlagFastPath, fast_posts
from app.flags.api.problem_codes import PROBLEM_CODES
from app.flags.api.router import router as flags_router
from app.flags.api.router_evaluation import router as evaluation_router
from app.flags.api.router_lifecycle import router as lifecycle_router
from app.flags.api.router_ofrep import RULES as OFREP_RULES
from app.flags.api.router_ofrep import router as ofrep_router
from app.flags.api.router_stale import router as stale_router
from app.flags.api.router_targets import LARGER_LIST
from app.flags.api.router_targets import router as targets_router
from app.flags.api.router_transfer import LARGER_IMPORT
from app.flags.api.router_transfer import router as transfer_router
from app.flags.cache import FlagCache
from app.flags.evaluation.evaluator import FlagEvaluator
from app.flags.evaluation.usage import UsageCounter
from app.flags.service import FlagService
from app.flags.store.port import FlagStore
from app.flags.transfer import FlagTransfer
from app.flags.warm_start import FlagSnapshots
from app.flags.writer import FlagWriter
from app.foundation import Foundation
from app.rules.policies.enforcement import Policies
from app.web.path_rules import PathRules

FLAG_ROUTES = Routes(
    # The paths of evaluations come before those with a name of a flag in the same place.
    routers=(
        evaluation_router,
        transfer_router,
        lifecycle_router,
        targets_router,
        stale_router,
        flags_router,
    ),
    lenient=(evaluation_router,),  # all but one of its routes, which says so
    open_routers=(ofrep_router,),  # its streams accept tickets
    path_rules=PathRules(
        larger_bodies=(LARGER_IMPORT, LARGER_LIST),
        protocols=(OFREP_RULES,),
        foreign_segments=dict.fromkeys(("features", "flags", "toggles"), "feature-flags"),
    ),
    problem_codes=PROBLEM_CODES,
)


@dataclass(frozen=True, slots=True)
class Flags:
    cache: FlagCache
    store: FlagStore
    writer: FlagWriter
    feature: Feature


def build_flags(base: Foundation, store: FlagStore, policies: Policies) -> Flags:
    turns, follower = base.changes.maintenance, base.changes.follower
    cache = FlagCache(store)
    follower.listeners.before_apply(cache.prepare)
    base.changes.snapshots.add_companion(FlagSnapshots(cache, base.cache))
    evaluator = FlagEvaluator(cache)
    counter = UsageCounter(store, evaluator)
    writer = FlagWriter(
        store, cache, base.audit.fingerprints, counter.last_evaluated_at, policies=policies
    )
    issue_ticket = base.access.authenticator.issue_ticket
    feature = Feature(
        state={
            "flags": FlagService(store, cache, writer, counter),
            "flag_transfer": FlagTransfer(cache, writer),
            "evaluator": evaluator,
            "collect_metrics": counter.collect,
        },
        fast_posts=fast_posts(FlagFastPath(evaluator, follower, base.fresh, issue_ticket)),
        tasks={
            "count_evaluations": counter.flush_periodically,
            "forget": in_turns(turns, "forget", TRIM_SECONDS, writer.delete_expired_keys),
        },
    )
    return Flags(cache, store, writer, feature)
