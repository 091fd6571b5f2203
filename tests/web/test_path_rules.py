"""Rules that features declare for paths hold below their prefix, and nowhere else."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from starlette.types import Scope

from app.errors import NotFound, PilothouseError
from app.web.path_rules import LargerBodyRule, PathRules, ProtocolRules


def _members(path: str, error: PilothouseError) -> Mapping[str, Any]:
    return {"path": path, "why": str(error)}


RULES = PathRules.of_all(
    [
        PathRules(
            larger_bodies=(LargerBodyRule(frozenset({"PUT"}), re.compile("/files/[a-z]+"), 500),),
            any_host=frozenset({"/alive"}),
            foreign_segments={"kv": "files"},
        ),
        PathRules(
            protocols=(ProtocolRules("/theirs/", may_encode_separators=True),),
            quiet=frozenset({"/alive"}),
            prefixes=("/files",),
        ),
        PathRules(
            protocols=(ProtocolRules("/others/", error_members=_members),),
            any_host=frozenset({"/figures"}),
        ),
    ]
)


def scope(path: str, method: str = "GET", root_path: str = "") -> Scope:
    return {"type": "http", "method": method, "path": path, "root_path": root_path}


def test_the_rules_of_all_features_are_one_set() -> None:
    assert RULES.any_host == {"/alive", "/figures"}
    assert RULES.quiet == {"/alive"}
    assert RULES.prefixes == ("/files",)
    assert RULES.foreign_segments == {"kv": "files"}


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [("PUT", "/files/a", 500), ("GET", "/files/a", 10), ("PUT", "/files/a/b", 10)],
)
def test_a_larger_body_is_allowed_by_method_and_whole_path(
    method: str, path: str, limit: int
) -> None:
    assert RULES.body_limit(scope(path, method), default=10) == limit
    assert RULES.body_limit(scope(f"/proxy{path}", method, "/proxy"), default=10) == limit


def test_a_protocol_allows_encoded_separators_below_its_prefix_alone() -> None:
    assert RULES.may_encode_separators("/theirs/a/b")
    assert not RULES.may_encode_separators("/theirs")
    assert not RULES.may_encode_separators("/others/a")
    assert not RULES.may_encode_separators("/files/theirs/a")


def test_a_protocol_adds_members_to_the_errors_below_its_prefix_alone() -> None:
    error = NotFound("nothing is here")

    assert RULES.error_members(scope("/others/a"), error) == {
        "path": "/others/a",
        "why": "nothing is here",
    }
    assert RULES.error_members(scope("/proxy/others/a", root_path="/proxy"), error) == {
        "path": "/others/a",
        "why": "nothing is here",
    }
    assert RULES.error_members(scope("/theirs/a"), error) == {}
    assert RULES.error_members(scope("/files/a"), error) == {}
