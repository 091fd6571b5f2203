"""Schemas by service: none that applies is missed, whatever was put and removed before."""

from hypothesis import given
from hypothesis import strategies as st

from app.rules.schemas.index import SchemaIndex
from app.rules.schemas.reading import Schema, read_schema

SERVICES = ["a", "ab", "b", "a-b", "_shared"]
PATTERNS = [*SERVICES, "*", "a*", "*b", "a*b", "ab*"]


def schema_of(name: str, version: int, patterns: list[str]) -> Schema:
    stored = {
        "mode": "enforce",
        "plain_secret": "seal",
        "applies_to": [{"services": patterns}],
        "schema": True,
    }
    return read_schema(name, version, stored)


changes = st.lists(
    st.tuples(
        st.sampled_from(["one", "two", "three"]),
        st.lists(st.sampled_from(PATTERNS), max_size=3),
    ),
    max_size=12,
)


@given(changes)
def test_whatever_applies_is_found(changes: list[tuple[str, list[str]]]) -> None:
    index = SchemaIndex()
    present: dict[str, Schema] = {}
    for version, (name, patterns) in enumerate(changes):
        present.pop(name, None)
        index.remove(name)
        if patterns:
            present[name] = schema_of(name, version, patterns)
            index.put(present[name])
    schemas = [schema for _, schema in sorted(present.items())]

    assert index.by_name == present
    for service in SERVICES:
        judging = [each for each in schemas if list(each.mounts("production", service))]
        reached = [each for each in schemas if list(each.mounts_of_document("production", service))]
        assert [each for each in index.concerning(service) if each in judging] == judging
        assert [each for each in index.reached_by(service) if each in reached] == reached


def test_what_begins_otherwise_is_not_looked_at() -> None:
    index = SchemaIndex()
    for number in range(100):
        index.put(schema_of(f"team-{number}", 1, [f"team-{number}", f"team-{number}-*"]))

    assert [each.name for each in index.concerning("team-7-api")] == ["team-7"]
    assert not list(index.concerning("other"))
    assert len(list(index.reached_by("_shared"))) == 100
