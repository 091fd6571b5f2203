"""Documents of flagd at random: what can be expressed, and here and there what cannot."""

from typing import Any

from hypothesis import strategies as st

Json = Any

TEXTS = ("", "a", "ab", "b@example.com", "5", "1.5", "007", "0", "1", "é", "true", "null")
NUMBERS = (5, 1, 2, -1, 18, 1.5, 1.0, 10**17 + 1)
VERSIONS = ("1.2.3", "v1.2.3", "1.2", "2", "1.2.3-rc.1", "1.3.0-0", "1.2.4+build", "x", "", "2.0.0")
VARIANTS: tuple[dict[str, Json], ...] = (
    {"a": "A", "b": "B", "c": "C"},
    {"a": 1, "b": 2, "c": 0},
    {"a": 1.5, "b": 2, "c": 0},
    {"a": {"x": 1}, "b": [1], "c": {}},
    {"true": True, "false": False, "a": True, "b": False, "c": True},
)
EVALUATORS = ("staff", "either")


def variable(name: str) -> dict[str, Json]:
    return {"var": name}


# Attributes by what they hold: email a text, age what spells a number or not, roles a list, seat
# what has a bucket both here and in flagd.
contexts: st.SearchStrategy[dict[str, Json]] = st.fixed_dictionaries(
    {},
    optional={
        "email": st.sampled_from(TEXTS) | st.none(),
        "age": st.sampled_from([*NUMBERS, 0, *TEXTS, None]),
        # Not empty: then flagd's daemon and its Python core disagree.
        "seat": st.sampled_from([5, 1, -1, 10**17 + 1, *TEXTS[1:], None]),
        "beta": st.booleans() | st.none(),
        "roles": st.lists(st.sampled_from(["admin", "dev", "5"]), min_size=1, max_size=3)
        | st.sampled_from(["admin", "administrator", ""]),
        "org": st.fixed_dictionaries({}, optional={"plan": st.sampled_from(TEXTS)})
        | st.sampled_from(["text", 7]),
        "version": st.sampled_from(VERSIONS) | st.none(),
    },
)
targeting_keys = st.none() | st.text(min_size=1, max_size=12) | st.sampled_from(["u1", "u2", "u3"])

emails = st.sampled_from([variable("email"), variable("org.plan"), {"var": ["email", "ab"]}])
ages = st.sampled_from([variable("age"), {"var": "age"}, {"var": ["age", 7]}])
numbers = st.sampled_from(NUMBERS)
texts = st.sampled_from(TEXTS)


def two(
    operators: list[str], left: st.SearchStrategy[Json], right: st.SearchStrategy[Json]
) -> st.SearchStrategy[Json]:
    return st.builds(
        lambda name, pair: {name: list(pair)},
        st.sampled_from(operators),
        st.tuples(left, right) | st.tuples(right, left),
    )


ORDERS = ["<", "<=", ">", ">="]
EQUALS = ["==", "!=", "===", "!=="]
comparisons = st.one_of(
    two(["==", "!="], emails | ages, texts),
    two(EQUALS, emails, st.none() | texts),
    two(EQUALS, ages, numbers),
    two(["==", "!="], st.just(variable("beta")), st.just(True)),  # noqa: FBT003
    two(["===", "!=="], st.just(variable("beta")), st.booleans() | st.none()),
    two(EQUALS, st.just(variable("$flagd.flagKey")), st.sampled_from(["flag", "other"])),
    two(ORDERS, ages | st.just(variable("beta")), numbers | st.just(0)),
    st.builds(
        lambda name, a, v, b: {name: [a, v, b]}, st.sampled_from(ORDERS), numbers, ages, numbers
    ),
    st.builds(
        lambda v, values: {"in": [v, values]}, emails | ages, st.lists(texts | numbers, max_size=4)
    ),
    st.builds(lambda v, values: {"in": [v, [*values, None]]}, emails, st.lists(texts, max_size=2)),
    st.builds(
        lambda part, v: {"in": [part, v]},
        st.sampled_from(["admin", "a", "", "5", 5]),
        st.sampled_from([variable("roles"), variable("email")]),
    ),
    st.builds(
        lambda name, v, part: {name: [v, part]},
        st.sampled_from(["starts_with", "ends_with"]),
        emails | ages,
        texts | st.just(5),
    ),
    st.builds(
        lambda sign, limit: {"sem_ver": [variable("version"), sign, limit]},
        st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "^", "~"]),
        st.sampled_from(["1.2.3", "v1.2", "1", "1.3.0-0", "2.0.0+x"]),
    ),
    emails,
    ages,
    st.just(variable("beta")),
    st.booleans(),
    st.sampled_from([{"$ref": name} for name in EVALUATORS]),
)
# The evaluator that judges breaks off at other letters in $evaluators.
ascii_comparisons = comparisons.filter(lambda found: str(found).isascii())
# Each is either refused or said exactly; nobody here relies on which.
oddities = st.sampled_from(
    [
        {"==": [variable("email"), variable("age")]},
        {"==": [variable("age"), 0]},
        {"==": [variable("beta"), False]},
        {"+": [variable("age"), 1]},
        {"missing": ["email"]},
        {"in": [variable("email"), "a long text"]},
        {"<": [variable("email"), "b"]},
        {">": [variable("$flagd.timestamp"), 5]},
        {"some": [variable("roles"), {"==": [variable(""), "admin"]}]},
        {"==": [variable("age"), "1_0"]},
        {"sem_ver": [variable("version"), "%", "1.0.0"]},
        {"var": "roles.0"},
        {"var": "email.length"},
        {"$ref": "nobody"},
        {"and": []},
        {"or": []},
        {"!": []},
        {"no such operator": []},
    ]
)


def logic(leaves: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(
                lambda name, found: {name: found},
                st.sampled_from(["and", "or"]),
                st.lists(inner, min_size=1, max_size=3),
            ),
            st.builds(lambda name, found: {name: [found]}, st.sampled_from(["!", "!!"]), inner),
            st.builds(lambda found: {"if": found}, st.lists(inner, min_size=1, max_size=4)),
        ),
        max_leaves=5,
    )


conditions = logic(comparisons)
any_conditions = logic(comparisons | oddities)

bucketings = st.sampled_from(
    [
        None,
        {"cat": [variable("$flagd.flagKey"), variable("email")]},
        {"cat": ["salt-", variable("seat")]},
        {"cat": ["salt", "-", 7, variable("targetingKey")]},
        variable("email"),
        {"var": ["seat", 3]},
        {"var": ["email", "nobody"]},
        "constant",
        {"cat": ["constant", 5]},
    ]
)


def fractional(results: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    weights = st.integers(-1, 120) | st.sampled_from([None, 50, 100_000])
    part = st.builds(
        lambda name, weight: [name] if weight is None else [name, weight], results, weights
    )
    return st.builds(
        lambda by, parts: {"fractional": parts if by is None else [by, *parts]},
        bucketings,
        st.lists(part, min_size=1, max_size=4),
    )


def outcomes(tests: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    names = st.sampled_from(["a", "b", "c"])
    results = names | st.none()
    chosen = results | st.builds(lambda c, x, y: {"if": [c, x, y]}, tests, results, results)
    return st.recursive(
        results | fractional(results) | fractional(chosen),
        lambda inner: st.builds(
            lambda steps, rest: {"if": [x for step in steps for x in step] + rest},
            st.lists(st.tuples(tests, inner), min_size=1, max_size=3),
            st.lists(inner, max_size=1),
        ),
        max_leaves=5,
    )


def documents(tests: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    def document(targeting: Json, variants: Json, default: Json, state: str, refs: Json) -> Json:
        flag = {"state": state, "variants": variants, "defaultVariant": default}
        # Who stands alone yields itself: flagd wants an expression.
        found = targeting if isinstance(targeting, dict) else {"if": [True, targeting]}
        return {"flags": {"flag": {**flag, "targeting": found}}, "$evaluators": refs}

    return st.builds(
        document,
        outcomes(tests),
        st.sampled_from(VARIANTS),
        st.sampled_from(["a", "c", None]),
        st.sampled_from(["ENABLED"] * 9 + ["DISABLED"]),
        st.fixed_dictionaries(
            {
                "staff": st.just({"ends_with": [variable("email"), "@example.com"]})
                | ascii_comparisons,
                "either": st.just({"in": [variable("age"), [5, "a"]]}),
            }
        ),
    )
