"""Stages for the fault tests: on real servers, and embedded."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import pytest

from tests.faults.fleet import Fleet
from tests.faults.stage import Stage
from tests.faults.topic import Topic
from tests.servers.postgres import PostgresServer
from tests.servers.zookeeper import ZooKeeperServer

IS_WHOLE = os.environ.get("PILOTHOUSE_FAULTS") == "whole"
KINDS = [pytest.param("real", marks=pytest.mark.servers), "embedded"]
TOLD_KINDS = [pytest.param("told", marks=pytest.mark.servers), "embedded"]  # with a Kafka topic


@pytest.fixture(scope="session")
def is_whole() -> bool:
    """Whether many rounds are wanted, and long outages."""
    return IS_WHOLE


@pytest.fixture(scope="module")
def open_stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Stage]]:
    """Open stages of either kind; each is closed after the last test of the module."""
    with ExitStack() as opened:
        yield partial(_open_stage, request, tmp_path_factory, opened)


def _open_stage(
    request: Any, folders: pytest.TempPathFactory, opened: ExitStack, kind: str
) -> Stage:
    vault = database = topic = None
    if kind in {"real", "told"}:
        vault = request.getfixturevalue("vault_server")
        postgres = request.getfixturevalue("postgres_server")
        database = postgres.migrated_database()
        opened.callback(postgres.drop, database)
    if kind == "told":
        kafka = request.getfixturevalue("kafka_server")
        topic = Topic(kafka.bootstrap, kafka.fresh_topic())
    stage = Stage(folders.mktemp("stage"), vault, database, topic)
    opened.callback(stage.close)
    return stage


@pytest.fixture
def stage(open_stage: Callable[[str], Stage], vault_server: object) -> Iterator[Stage]:
    """A stage of its own on real servers."""
    stage = open_stage("real")
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def fleet(
    zookeeper_server: ZooKeeperServer,
    postgres_server: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    """Three replicas of the registry, whose ways to ZooKeeper nobody stands in."""
    made = Fleet(
        tmp_path_factory.mktemp("fleet"), zookeeper_server, postgres_server.migrated_database()
    )
    with closing(made):
        made.start_many({}, {}, {})
        yield made
