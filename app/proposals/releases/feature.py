"""Builds releases: what readers are answered by, and above the configurations the rest."""

import asyncio
from dataclasses import dataclass

from app.changes.turns import in_turns
from app.configs.feature import Configs
from app.feature import Feature, Routes
from app.foundation import Foundation
from app.proposals.releases.api.problem_codes import PROBLEM_CODES
from app.proposals.releases.api.router_readers import router as readers_router
from app.proposals.releases.api.router_releases import router as releases_router
from app.proposals.releases.bodies import CandidateBodies
from app.proposals.releases.controller import ReleaseController
from app.proposals.releases.finish import ReleaseFinisher
from app.proposals.releases.health import RegisteredInstances
from app.proposals.releases.prometheus import NoQueries, PrometheusQueries, Queries
from app.proposals.releases.readers.port import ReaderStore
from app.proposals.releases.readers.recorder import ReadRecorder
from app.proposals.releases.readers.service import FORGET_SECONDS, ReaderService
from app.proposals.releases.service import ReleaseService
from app.proposals.releases.store.port import ReleaseStore
from app.proposals.releases.view import ReleaseView
from app.registry.view import RegistryView
from app.web.path_rules import PathRules

RELEASE_ROUTES = Routes(
    routers=(releases_router, readers_router),
    path_rules=PathRules(
        foreign_segments=dict.fromkeys(("deployments", "rollouts", "canaries"), "releases")
    ),
    problem_codes=PROBLEM_CODES,
)


@dataclass(frozen=True, slots=True)
class ReleaseBasis:
    """What is below the configurations: they are read as `view` says."""

    store: ReleaseStore
    readers: ReaderStore
    recorder: ReadRecorder
    view: ReleaseView


@dataclass(frozen=True, slots=True)
class Releases:
    service: ReleaseService
    view: ReleaseView
    feature: Feature


def build_release_basis(
    base: Foundation, store: ReleaseStore, readers: ReaderStore, bodies: CandidateBodies
) -> ReleaseBasis:
    recorder = ReadRecorder(readers)
    view = ReleaseView(store, bodies, recorder, base.changes.follower)
    return ReleaseBasis(store, readers, recorder, view)


def build_releases(
    base: Foundation, basis: ReleaseBasis, configs: Configs, registry: RegistryView
) -> Releases:
    woken = asyncio.Event()
    instances = RegisteredInstances(registry)
    service = ReleaseService(
        basis.store,
        configs.reader,
        instances,
        woken.set,
        basis.view.remember_edit,
        base.changes.follower.catch_up,
    )
    readers = ReaderService(basis.readers, woken.set)
    queries = _queries(base)
    controller = ReleaseController(
        service,
        ReleaseFinisher(basis.store, basis.view, configs.writer),
        basis.readers,
        instances,
        queries,
        configs.reader,
        base.changes.maintenance,
        woken,
    )
    feature = Feature(
        state={"releases": service, "readers": readers},
        tasks={
            "control_releases": controller.run,
            "record_readers": basis.recorder.run,
            "forget_readers": in_turns(
                base.changes.maintenance, "forget_readers", FORGET_SECONDS, readers.forget
            ),
        },
        facts=lambda: {"releases": len(basis.view.active)},
        close=queries.close,
    )
    return Releases(service, basis.view, feature)


def _queries(base: Foundation) -> Queries:
    url = base.settings.release_prometheus_url
    return NoQueries() if url is None else PrometheusQueries(str(url))
