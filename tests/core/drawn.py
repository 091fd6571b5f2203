"""Definitions and contexts at random, for the properties of flags."""

from typing import Any

from hypothesis import strategies as st

from pilothouse_core.flags.model import Flag
from pilothouse_core.flags.reading import read_flag

Json = Any

# Small worlds, so that what is drawn for a definition and for a context meets often.
WORDS = ("", "a", "b", "ab", "Ab", "STRASSE", "straße", "é", "x.y")
PATTERNS = ("^a", "b$", "a|b", "[a-c]+", ".", "^$", "(ab)?x", "A")
VERSIONS = (
    *("0.0.1", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11"),
    *("1.0.0-rc.1", "1.0.0", "1.0.0+build.7", "1.2.10", "1.10.2", "2.0.0"),
)
TIMES = (
    *("2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2025-12-31T23:59:59.999999Z"),
    *("2026-01-01T00:00:00.5Z", "2024-02-29T12:00:00-08:00", "2026-06-01t10:00:00z"),
)
ADDRESSES = ("10.0.0.1", "10.1.2.3", "192.168.1.7", "::1", "2001:db8::7", "::ffff:10.0.0.1")
NETWORKS = ("10.0.0.0/16", "10.0.0.0/8", "192.168.1.7", "2001:db8::/32", "::/0", "0.0.0.0/0")
NUMBERS = (0, 1, -1, 7, 2**53 + 1, 10**30, 0.5, 1.0, -2.5, 1e300)
ATTRIBUTES = ("user_id", "plan", "deep.er", "deep.er.est", "not there")
SEGMENTS = ("beta", "staff")

texts = st.text(st.characters(), max_size=8)  # half surrogate pairs as well
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**4000), 2**63, 2**64])
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
known_values = st.sampled_from(
    [
        *WORDS,
        *VERSIONS,
        *TIMES,
        *ADDRESSES,
        *NUMBERS,
        True,
        False,
        None,
        [],
        {},
        ["a"],
        [True, 7],
        {"er": 1},
    ]
)
attribute_values = known_values | known_values | json_values
contexts: st.SearchStrategy[dict[str, Json]] = st.builds(
    lambda members, deep, more: {**more, **members, **deep},
    st.dictionaries(st.sampled_from(["user_id", "plan"]), attribute_values),
    st.fixed_dictionaries(
        {},
        optional={
            "deep": attribute_values
            | st.fixed_dictionaries(
                {"er": attribute_values | st.fixed_dictionaries({"est": attribute_values})}
            )
        },
    ),
    st.dictionaries(texts, json_values, max_size=3),
)


def _test(operator: str, values: st.SearchStrategy[Json], most: int, *, folds: bool) -> Json:
    return st.fixed_dictionaries(
        {
            "attribute": st.sampled_from(ATTRIBUTES),
            "op": st.just(operator),
            "values": st.lists(values, min_size=1, max_size=most),
        },
        optional={"case_insensitive": st.booleans()} if folds else {},
    )


_words, _numbers = st.sampled_from(WORDS), st.sampled_from(NUMBERS)
_anything = _words | _numbers | st.booleans()
tests: st.SearchStrategy[Json] = st.one_of(
    *(_test(op, _anything, 4, folds=True) for op in ("in", "not_in")),
    _test("includes", _anything, 3, folds=False),
    *(_test(op, _anything, 1, folds=True) for op in ("eq", "neq")),
    *(_test(op, _words, 3, folds=True) for op in ("starts_with", "ends_with", "contains")),
    _test("matches", st.sampled_from(PATTERNS), 3, folds=True),
    *(_test(op, _numbers, 1, folds=False) for op in ("gt", "gte", "lt", "lte")),
    *(_test(op, st.sampled_from(TIMES), 1, folds=False) for op in ("before", "after")),
    *(
        _test(f"semver_{op}", st.sampled_from(VERSIONS), 1, folds=False)
        for op in ("eq", "gt", "gte", "lt", "lte")
    ),
    _test("cidr", st.sampled_from(NETWORKS), 3, folds=False),
    st.fixed_dictionaries({"attribute": st.sampled_from(ATTRIBUTES), "op": st.just("exists")}),
)
shares: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {
        "rollout": st.fixed_dictionaries(
            {"salt": st.sampled_from(["s", "t"]), "percent": st.sampled_from([0, 12.345, 50, 100])},
            optional={"by": st.sampled_from(ATTRIBUTES)},
        )
    }
)


def conditions(segments: tuple[str, ...] = ()) -> st.SearchStrategy[Json]:
    leaves = tests | tests | shares
    if segments:
        leaves |= st.fixed_dictionaries({"segment": st.sampled_from(segments)})
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.fixed_dictionaries({"all": st.lists(inner, max_size=3)}),
            st.fixed_dictionaries({"any": st.lists(inner, max_size=3)}),
            st.fixed_dictionaries({"not": inner}),
        ),
        max_leaves=6,
    )


VALUES: dict[str, st.SearchStrategy[Json]] = {
    "boolean": st.booleans(),
    "string": texts,
    "integer": st.integers(-(2**63) + 1, 2**63 - 1),
    "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60),
    "object": st.dictionaries(texts, json_values, max_size=3) | st.lists(json_values, max_size=3),
}
VARIANTS = ("on", "off", "third", "/~")


@st.composite
def weights(draw: st.DrawFn, variants: tuple[str, ...] = VARIANTS) -> dict[str, float]:
    """Draw percentages of three decimals at most that add up to 100."""
    names = draw(st.permutations(variants))
    cuts = draw(st.lists(_buckets, min_size=len(names) - 1, max_size=len(names) - 1))
    edges = [0, *sorted(cuts), 100_000]
    return {
        name: (end - start) / 1000
        for name, start, end in zip(names, edges, edges[1:], strict=False)
    }


_buckets = st.integers(0, 100_000) | st.integers(0, 100).map(lambda percent: percent * 1000)
_methods: dict[str, st.SearchStrategy[Json]] = {
    "by": st.sampled_from(["user_id", "deep.er"]),
    "salt": st.sampled_from(["s", ""]),
}
_points = st.sampled_from([0, 12.345, 50, 100])
served: st.SearchStrategy[Json] = st.one_of(
    st.fixed_dictionaries({"variant": st.sampled_from(VARIANTS)}),
    st.fixed_dictionaries(
        {"rollout": st.fixed_dictionaries({"weights": weights()}, optional=_methods)}
    ),
    st.fixed_dictionaries(
        {
            "progressive": st.fixed_dictionaries(
                {
                    "variant": st.sampled_from(VARIANTS),
                    "otherwise": st.sampled_from(VARIANTS),
                    "from": st.fixed_dictionaries(
                        {"at": st.just("2026-01-01T00:00:00Z"), "percent": _points}
                    ),
                    "to": st.fixed_dictionaries(
                        {"at": st.just("2026-01-03T00:00:00Z"), "percent": _points}
                    ),
                },
                optional=_methods,
            )
        }
    ),
)
MOMENTS = (1767225600.0 - 1, 1767225600.0, 1767300000.5, 1767398400.0, 0.0)
rules: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {"serve": served},
    optional={
        "when": st.none() | conditions(SEGMENTS),
        "active": st.sampled_from(
            [
                None,
                {},
                {"from": "2026-01-01T00:00:00Z"},
                {"from": None, "until": "2026-01-02T00:00:00Z"},
            ]
        ),
    },
)


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, Json]:
    """Draw the definition of a flag that may use the segments SEGMENTS."""
    kind = draw(st.sampled_from(sorted(VALUES)))
    return {
        "name": draw(st.sampled_from(["first", "second"])),
        "description": draw(texts),
        "tags": draw(st.lists(texts, max_size=2)),
        "type": kind,
        "variants": {name: draw(VALUES[kind]) for name in VARIANTS},
        "default_variant": draw(st.none() | st.sampled_from(VARIANTS)),
        "off_variant": draw(st.none() | st.sampled_from(VARIANTS)),
        "enabled": draw(st.sampled_from([True, True, False])),
        "rules": draw(st.lists(rules, max_size=4)),
    }


flags: st.SearchStrategy[Flag] = definitions().map(read_flag)


def boolean(*rules: Json, **members: Json) -> dict[str, Json]:
    """Return the definition of a boolean flag with these rules."""
    return {
        "name": "new-checkout",
        "type": "boolean",
        "variants": {"on": True, "off": False},
        "default_variant": "off",
        "off_variant": "off",
        "enabled": True,
        "rules": list(rules),
        **members,
    }


def rollout(on: float, **members: Json) -> Json:
    """Return a rule that serves `on` to a percentage."""
    weights = {"on": on, "off": round(100 - on, 3)}
    return {"id": "share", "serve": {"rollout": {"weights": weights, **members}}}
