"""Documents of Unleash's clients at random, and contexts for them."""

from typing import Any

from hypothesis import strategies as st

Json = Any

WORDS = ("", "a", "A", "ab", "b", "Østhus", "用户", "5", "v1")
NUMERALS = ("5", "5.0", "-3", "+5", "1e1", "05", "4.5", "x", "", " 5", "inf")
VERSIONS = ("1.2.3", "1.2.3-rc.1", "1.2.10", "2.0.0", "2.0.0-alpha", "2.0.0+b", "v1.2.3", "1.2", "")
MOMENTS = ("2022-01-29T13:00:00.000Z", "2022-01-29T13:00:00Z", "2030-06-01T00:00:00+02:00", "x")
ADDRESSES = ("10.0.0.1", "10.1.2.3", "192.168.0.9", "2001:db8::1", "::1", "nowhere")
NETWORKS = (
    "10.0.0.0/8",
    "10.0.0.1",
    "192.168.0.0/24",
    "2001:db8::/32",
    "192.invalid",
    "10.2.3.4/8",
)
USERS = ("", "u1", "u2", "u3", "17", "用户-7", "a")
# Properties by what they hold, so that a test often meets something it can read.
HELD = {
    "userId": USERS,
    "sessionId": USERS,
    "remoteAddress": ADDRESSES,
    "appName": WORDS,
    "environment": ("production", "dev"),
    "word": WORDS,
    "number": NUMERALS,
    "version": VERSIONS,
    "moment": MOMENTS,
    "customField": USERS,
}
SUBJECTS = ("userId", "sessionId", "customField")
_subjects = {name: st.sampled_from(HELD[name]) for name in SUBJECTS}
_others = {name: st.sampled_from(HELD[name]) for name in HELD if name not in SUBJECTS}
# Mostly with all that a rollout may be sticky on: those without are left to chance.
contexts: st.SearchStrategy[dict[str, str]] = st.one_of(
    st.fixed_dictionaries(_subjects, optional=_others),
    st.fixed_dictionaries(_subjects, optional=_others),
    st.fixed_dictionaries({}, optional={**_subjects, **_others}),
)


def constraint(name: str, operators: list[str], **members: Json) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries(
        {
            "contextName": st.just(name),
            "operator": st.sampled_from(operators),
            "inverted": st.booleans(),
            **members,
        }
    )


words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3)
folded = {"values": words, "caseInsensitive": st.booleans()}
constraints = st.one_of(
    constraint("word", ["STR_CONTAINS", "STR_STARTS_WITH", "STR_ENDS_WITH"], **folded),
    constraint("word", ["IN", "NOT_IN"], values=st.lists(st.sampled_from(WORDS), max_size=3)),
    constraint("userId", ["IN", "NOT_IN"], values=st.lists(st.sampled_from(USERS), max_size=3)),
    constraint(
        "number",
        ["NUM_EQ", "NUM_GT", "NUM_GTE", "NUM_LT", "NUM_LTE"],
        value=st.sampled_from(["5", "5.0", "-3", "4.5", "10", "1e1", "x"]),
    ),
    constraint(
        "version",
        ["SEMVER_EQ", "SEMVER_GT", "SEMVER_GTE", "SEMVER_LT", "SEMVER_LTE"],
        value=st.sampled_from(["1.2.3", "1.2.3-rc.1", "2.0.0", "2.0.0-alpha", "v2.0.0"]),
    ),
    constraint("moment", ["DATE_AFTER", "DATE_BEFORE"], value=st.sampled_from(MOMENTS)),
    constraint("currentTime", ["DATE_AFTER", "DATE_BEFORE"], value=st.sampled_from(MOMENTS)),
    constraint(
        "remoteAddress",
        ["IN_CIDR"],
        values=st.lists(st.sampled_from(NETWORKS), min_size=1, max_size=2),
    ),
    constraint("word", ["REGEX"], value=st.sampled_from(["^a", "b$", "[ab]+", "^$", "("])),
)
groups = st.sampled_from(["g", "用"])
percents = st.sampled_from(["0", "1", "20", "50", "75", "100", "101"])
sticky = st.sampled_from(["default", "userId", "sessionId", "customField", "random"])
payloads = st.none() | st.fixed_dictionaries(
    {
        "type": st.sampled_from(["string", "csv", "json", "number"]),
        "value": st.sampled_from(["x", "5", '{"a": 1}', "a,b", "[1]"]),
    }
)
texts = st.none() | st.fixed_dictionaries({"type": st.just("string"), "value": st.text(max_size=3)})


overrides = st.lists(
    st.fixed_dictionaries(
        {
            "contextName": st.sampled_from(["userId", "word"]),
            "values": st.lists(st.sampled_from(USERS), max_size=2),
        }
    ),
    max_size=2,
)


def variants(
    of: st.SearchStrategy[Json], overrides: st.SearchStrategy[Json]
) -> st.SearchStrategy[Json]:
    one = st.builds(
        lambda name, weight, payload, overrides: {
            "name": name,
            "weight": weight,
            **({} if payload is None else {"payload": payload}),
            **({"overrides": overrides} if overrides else {}),
        },
        st.sampled_from(["red", "blue", "green", "用"]),
        st.sampled_from([0, 1, 33, 334, 1000]),
        of,
        overrides,
    )
    return st.lists(one, max_size=4, unique_by=lambda found: found["name"])


def strategies(of: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    """Draw a strategy: named, or a flexible rollout."""
    rest = {
        "constraints": st.lists(constraints, max_size=2),
        "segments": st.just([]) | st.lists(st.sampled_from([1, 2, 3]), max_size=2),
    }
    flexible = st.fixed_dictionaries(
        {"rollout": percents, "stickiness": sticky},
        optional={"groupId": groups},
    )
    named = st.sampled_from(
        [
            ("default", {}),
            ("userWithId", {"userIds": "u1, u2,17"}),
            ("remoteAddress", {"IPs": "10.0.0.1, 192.invalid,192.168.0.0/24"}),
            ("gradualRolloutUserId", {"percentage": "50", "groupId": "g"}),
            ("gradualRolloutSessionId", {"percentage": "30", "groupId": "h"}),
            ("gradualRolloutRandom", {"percentage": "100"}),
            ("gradualRolloutRandom", {"percentage": "50"}),
        ]
    )
    plain = st.builds(
        lambda named, rest: {"name": named[0], "parameters": named[1], **rest},
        named,
        st.fixed_dictionaries(rest),
    )
    rolled = st.builds(
        lambda parameters, rest: {"name": "flexibleRollout", "parameters": parameters, **rest},
        flexible,
        st.fixed_dictionaries(rest, optional={"variants": variants(of, st.just([]))}),
    )
    return plain | rolled


def features(name: str) -> st.SearchStrategy[Json]:
    def feature(of: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
        return st.builds(
            lambda enabled, strategies, variants, sticky: {
                "name": name,
                "enabled": enabled,
                "strategies": strategies,
                "variants": [{**one, "stickiness": sticky} for one in variants],
            },
            st.sampled_from([True] * 7 + [False]),
            st.lists(strategies(of), max_size=3),
            variants(of, overrides) | st.just([]),
            sticky,
        )

    return feature(texts) | feature(payloads)


dependencies = st.lists(
    st.fixed_dictionaries(
        {"feature": st.just("parent")},
        optional={
            "enabled": st.booleans(),
            "variants": st.lists(st.sampled_from(["red", "blue", "disabled"]), max_size=2),
        },
    ),
    max_size=1,
)
documents: st.SearchStrategy[Json] = st.builds(
    lambda child, parent, needs, one, two: {
        "version": 2,
        "features": [{**child, "dependencies": needs}, parent],
        "segments": [{"id": 1, "name": "One", "constraints": one}, {"id": 2, "constraints": two}],
    },
    features("child"),
    features("parent"),
    dependencies,
    st.lists(constraints, max_size=2),
    st.lists(constraints, max_size=2),
)
