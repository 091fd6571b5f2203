"""Strategies over what is known of a service: who takes part, and whose turn it is."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from app.registry.balancing import Balancer, Strategy, candidate_pool
from app.registry.view import RegistryView, ServiceView
from tests.registry.bench import MOMENT, SERVICE, foreign, node_of, row_of, view_of


def service_of(**health: Any) -> ServiceView:
    rows = [row_of(id_.replace("_", "-"), **facts) for id_, facts in health.items()]
    return view_of(*rows).service(SERVICE)


def choose_ids(
    balancer: Balancer,
    service: ServiceView,
    times: int,
    strategy: Strategy = "round_robin",
    **choice_options: str | None,
) -> list[str]:
    found = [
        balancer.choose(service, strategy, choice_options.get("zone"), choice_options.get("key"))
        for _ in range(times)
    ]
    return [choice.instance.id for choice in found if choice is not None]


@pytest.mark.parametrize("strategy", ["round_robin", "random", "least_recent", "hash"])
def test_of_nobody_nobody_is_chosen(strategy: Strategy) -> None:
    nobody = service_of()
    kept_out = service_of(
        a={"definition_of": {"weight": 0}}, b={"draining_until": MOMENT, "health": "up"}
    )

    assert choose_ids(Balancer(), nobody, 3, strategy, key="k") == []
    assert choose_ids(Balancer(), kept_out, 3, strategy, key="k") == []


def test_turns_go_on_when_the_view_moves() -> None:
    balancer = Balancer()
    first = choose_ids(balancer, service_of(a={}, b={}, c={}), 4)

    rest = choose_ids(balancer, service_of(a={"epoch": 2}, b={}, c={}), 5)

    assert Counter(first + rest) == {"a": 3, "b": 3, "c": 3}


def test_every_zone_has_turns_of_its_own() -> None:
    service = service_of(
        a={"definition_of": {"zone": "x"}},
        b={"definition_of": {"zone": "x"}},
        c={"definition_of": {"zone": "y"}},
        d={"definition_of": {"zone": "y"}},
    )
    balancer = Balancer()

    mixed = [choose_ids(balancer, service, 1, zone=zone)[0] for zone in "xyxyxyxy"]

    assert mixed == ["a", "c", "b", "d"] * 2


def test_suspects_take_part_and_those_down_only_in_panic() -> None:
    calm = service_of(a={}, b={"health": "suspect"}, c={"health": "down"})
    panicked = service_of(a={}, b={"health": "down"}, c={"health": "starting"})

    assert set(choose_ids(Balancer(), calm, 6)) == {"a", "b"}
    assert not candidate_pool(calm, None).panicked
    assert set(choose_ids(Balancer(), panicked, 6)) == {"a", "b", "c"}
    assert candidate_pool(panicked, None).panicked


def test_those_that_drain_take_no_part_even_in_panic() -> None:
    service = service_of(a={"health": "down"}, b={"draining_until": MOMENT})

    assert choose_ids(Balancer(), service, 4) == ["a"] * 4


def test_foreign_instances_take_part_as_any_other() -> None:
    view = view_of(row_of("a"))
    view.set_nodes(SERVICE, {"a": node_of(row_of("a")), "n": foreign("n", "f/1")})

    assert Counter(choose_ids(Balancer(), view.service(SERVICE), 6)) == {"a": 3, "f/1": 3}


def test_who_registered_just_now_is_warmed_up_and_who_did_long_ago_is_warm() -> None:
    warming = {"warmup_seconds": 600}
    service = service_of(
        old={"definition_of": warming},
        new={"definition_of": warming, "registered_at": datetime.now(UTC)},
    )

    assert choose_ids(Balancer(), service, 20) == ["old"] * 20


def test_a_key_stays_where_it_is_when_others_come() -> None:
    few, more = service_of(a={}, b={}, c={}), service_of(a={}, b={}, c={}, d={})
    keys = [f"key{number}" for number in range(100)]

    moved = [
        (before, after)
        for key in keys
        for before in choose_ids(Balancer(), few, 1, "hash", key=key)
        for after in choose_ids(Balancer(), more, 1, "hash", key=key)
        if before != after
    ]

    assert {after for _, after in moved} == {"d"}
    assert 10 < len(moved) < 45


@pytest.mark.parametrize("strategy", ["round_robin", "least_recent"])
def test_of_services_without_end_the_oldest_turns_begin_anew(strategy: Strategy) -> None:
    instances = service_of(a={}, b={}).instances

    def turns(at_most: int) -> list[str]:
        balancer = Balancer(at_most)
        order = ["first", *(f"s{number}" for number in range(50)), "first"]
        return [
            choose_ids(balancer, ServiceView(name, instances), 1, strategy)[0] for name in order
        ]

    assert turns(at_most=50) == ["a"] * 52
    assert turns(at_most=51) == ["a"] * 51 + ["b"]


def test_zones_without_end_are_balanced_to_all_alike() -> None:
    service, balancer = service_of(a={}, b={}), Balancer()

    found = [choose_ids(balancer, service, 1, zone=f"z{number}")[0] for number in range(200)]

    assert Counter(found) == {"a": 100, "b": 100}
    assert len(service.pools) == 100
    assert {id(found) for _, found in service.pools.values()} == {id(candidate_pool(service, None))}


def test_a_view_of_nobody_is_balanced_as_nobody() -> None:
    assert Balancer().choose(RegistryView().service("unknown"), "random", None, None) is None
