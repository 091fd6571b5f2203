"""Flags of flagd mean here what they mean there: its own evaluator is the judge."""

import copy
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext

from app.flags.definitions.representations import read_flag_body
from app.importers.flagd import read_flagd, write_flagd
from app.importers.model import FlagdHash, ImportedFlags
from pilothouse_core.flags.metadata import metadata_of
from pilothouse_core.flags.reading import read_flag, read_segment
from tests.flags.drawn_flagd import (
    any_conditions,
    conditions,
    contexts,
    documents,
    targeting_keys,
)
from tests.flags.imported import evaluate_imported
from tests.flags.judges import flagd_core_1
from tests.servers.program import INTEROP, Program
from tests.trials import trials

Json = Any
OURS = object()
many = settings(
    max_examples=trials(40),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)  # flagd logs each rollout without a key
    yield
    logging.disable(logging.NOTSET)


def serve_by_flagd(
    document: Json, key: str | None, context: Json, version: FlagdHash = "v2"
) -> tuple[str | None, Json]:
    """Return the variant and the value that flagd serves, by its core of that hash."""
    core = FlagdCore() if version == "v3" else flagd_core_1().FlagdCore()
    core.set_flags(copy.deepcopy(document))
    found = core._resolve(  # noqa: SLF001 - any type of flag
        "flag", OURS, EvaluationContext(key, dict(context))
    )
    return found.variant, None if found.value is OURS else found.value


def ours(imported: ImportedFlags, key: str | None, context: Json) -> tuple[str | None, Json]:
    found = evaluate_imported(imported, "flag", {**context, "targetingKey": key})
    return found.variant, found.value


def without_disputed_texts(questions: Json, version: FlagdHash) -> Json:
    """Leave out empty texts by which the cores of version 2 disagree.

    flagd's Python core 1.0 takes an empty text for none, and serves the default variant. Its
    JavaScript core hashes it, as flagd itself and we do.
    """
    if version == "v3":
        return questions
    return [(key, context) for key, context in questions if "" not in context.values()]


def one_flag(targeting: Json, **members: Json) -> Json:
    flag = {"state": "ENABLED", "variants": {"a": "A", "b": "B"}, "defaultVariant": "a"}
    return {"flags": {"flag": {**flag, "targeting": targeting, **members}}}


@pytest.mark.parametrize("version", ["v2", "v3"])
@many
@given(
    documents(conditions), st.lists(st.tuples(targeting_keys, contexts), min_size=6, max_size=12)
)
def test_a_flag_serves_everybody_what_flagd_serves_them(
    version: FlagdHash, document: Json, asked: Json
) -> None:
    imported = read_flagd(document, version)

    for key, context in without_disputed_texts(asked, version):
        if imported.flags:
            assert ours(imported, key, context) == serve_by_flagd(document, key, context, version)


@pytest.mark.parametrize("version", ["v2", "v3"])
@many
@given(documents(any_conditions), st.lists(st.tuples(targeting_keys, contexts), min_size=6))
def test_a_flag_is_imported_whole_or_reported_and_left_out(
    version: FlagdHash, document: Json, asked: Json
) -> None:
    imported = read_flagd(document, version)

    assert bool(imported.flags) is not bool(imported.report)
    for key, context in without_disputed_texts(asked, version):
        if imported.flags:
            assert ours(imported, key, context) == serve_by_flagd(document, key, context, version)


@pytest.mark.parametrize("version", ["v2", "v3"])
@many
@given(
    documents(conditions), st.lists(st.tuples(targeting_keys, contexts), min_size=6, max_size=12)
)
def test_a_flag_that_goes_to_flagd_and_comes_back_evaluates_the_same(
    version: FlagdHash, document: Json, asked: Json
) -> None:
    there = read_flagd(document, version)
    flags = [read_flag(found) for found in there.flags]
    written, report = write_flagd(flags, [read_segment(found) for found in there.segments], version)
    back = read_flagd(written, version)

    assert report == back.report == ()
    for key, context in without_disputed_texts(asked, version):
        # true and false count as numbers in flagd, here only where it says so
        if flags and not isinstance(context.get("beta"), bool):
            assert ours(back, key, context) == ours(there, key, context)
            assert serve_by_flagd(written, key, context, version) == ours(there, key, context)


VAR = {"var": "x"}


@pytest.mark.parametrize(
    ("targeting", "pointer"),
    [
        ({"if": [{"==": [VAR, {"var": "y"}]}, "b"]}, "/if/0"),
        ({"if": [{"and": [VAR, {"==": [VAR, 0]}]}, "b"]}, "/if/0/and/1"),
        ({"if": [{"some": [VAR, True]}, "b"]}, "/if/0"),
        ({"if": [{"<": [VAR, "text"]}, "b"]}, "/if/0"),
        ({"if": [{">": [{"var": "$flagd.timestamp"}, 1]}, "b"]}, "/if/0/>/0"),
        ({"if": [{"!": {"var": "items.0"}}, "b"]}, "/if/0/!"),
        ({"if": [{"sem_ver": [VAR, "=", "one"]}, "b"]}, "/if/0/sem_ver/2"),
        ({"if": [{"sem_ver": [VAR, "?", "1.0"]}, "b"]}, "/if/0/sem_ver/1"),
        ({"if": [{"in": [VAR, [["nested"]]]}, "b"]}, "/if/0/in/1/0"),
        ({"if": [True, "no variant"]}, "/if/1"),
        ({"if": [True, 5]}, "/if/1"),
        ({"if": [{"$ref": "nobody"}, "b"]}, "/if/0"),
        ({"var": "variant"}, ""),
        ({"==": [VAR, "a"]}, ""),  # true is no variant
        ({"fractional": [["a", 50], ["nobody", 50]]}, "/fractional/1/0"),
        ({"fractional": [["a", 1.5]]}, "/fractional/0/1"),
        ({"fractional": [["a", 0]]}, ""),
        ({"fractional": [["a", 2**31]]}, ""),
        ({"fractional": [["a", VAR]]}, "/fractional/0/1"),
        ({"fractional": [{"cat": [VAR, "behind"]}, ["a", 1]]}, "/fractional/0"),
        ({"fractional": [{"merge": []}, ["a", 1]]}, "/fractional/0"),
        ({"fractional": [[{"fractional": [["a", 1]]}, 1]]}, "/fractional/0/0"),
    ],
)
def test_what_cannot_be_said_exactly_is_reported_by_its_place(
    targeting: Json, pointer: str
) -> None:
    imported = read_flagd(one_flag(targeting))

    assert imported.flags == ()
    assert [note.flag for note in imported.report] == ["flag"] * len(imported.report)
    assert f"/flags/flag/targeting{pointer}" in [note.pointer for note in imported.report]


def test_a_report_names_all_of_a_flag_that_cannot_be_said() -> None:
    targeting = {"if": [{"==": [VAR, 0]}, "nobody", {"some": [VAR, True]}, "a"]}

    report = read_flagd(one_flag(targeting)).report

    assert [note.pointer.removeprefix("/flags/flag/targeting") for note in report] == [
        "/if/0",
        "/if/1",
        "/if/2",
    ]


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"variants": {"a": 1, "b": "B"}}, "/variants"),
        ({"variants": {}, "defaultVariant": None}, ""),
        ({"variants": {"a": None}}, "/variants"),
        ({"defaultVariant": "nobody"}, "/defaultVariant"),
        ({"state": "ON"}, "/state"),
        ({"targeting": ["if"]}, "/targeting"),
    ],
)
def test_a_flag_that_flagd_would_not_take_is_reported(members: Json, pointer: str) -> None:
    imported = read_flagd(one_flag(**{"targeting": {}, **members}))

    assert imported.flags == ()
    assert [note.pointer for note in imported.report] == [f"/flags/flag{pointer}"]


def test_a_flag_whose_name_is_none_here_is_reported_and_the_others_are_read() -> None:
    flag = one_flag({})["flags"]["flag"]

    imported = read_flagd({"flags": {"with space": flag, "good": flag}})

    assert [found["name"] for found in imported.flags] == ["good"]
    assert [note.flag for note in imported.report] == ["with space"]


@pytest.mark.parametrize("document", [None, [], {}, {"flags": []}, {"flags": {}, "$evaluators": 1}])
def test_what_is_no_document_of_flagd_is_reported_once(document: Json) -> None:
    imported = read_flagd(document)

    assert (imported.flags, len(imported.report)) == ((), 1)


@pytest.mark.parametrize(
    "evaluators", [{"loop": {"$ref": "loop"}}, {"loop": {"!": {"!": {"$ref": "loop"}}}}]
)
def test_an_evaluator_that_names_itself_is_reported(evaluators: Json) -> None:
    targeting = {"if": [{"$ref": "loop"}, "b"]}

    imported = read_flagd({**one_flag(targeting), "$evaluators": evaluators})

    assert imported.flags == ()
    assert imported.report


EITHER = [{"==": [VAR, "a"]}, {"$ref": "loop"}, {"$ref": "loop"}]  # two of each: 2 ** 40 in all
CHOICE = [{"if": [{"==": [VAR, "a"]}, "a", "b"]}, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "targeting",
    [
        {"if": [{"$ref": "loop"}, "b"]},
        {"$ref": "loop"},
        {"if": [False, {"$ref": "loop"}]},
        {"if": [False, {"fractional": [CHOICE] * 40}]},
        {"if": [{"if": [{"==": [VAR, "a"]}] * 20_000}, "b"]},
    ],
)
@pytest.mark.parametrize("default", ["a", None])
def test_what_would_grow_beyond_measure_is_reported_and_harms_no_other(
    targeting: Json, default: str | None
) -> None:
    document = one_flag(targeting, defaultVariant=default)
    document["flags"]["good"] = one_flag({})["flags"]["flag"]

    imported = read_flagd({**document, "$evaluators": {"loop": {"if": EITHER}}})

    assert [found["name"] for found in imported.flags] == ["good"]
    assert "is too large, together with everything it refers to" in {
        note.reason for note in imported.report if note.flag == "flag"
    }


def test_an_evaluator_becomes_a_segment_and_metadata_a_description() -> None:
    targeting = {"if": [{"$ref": "staff"}, "b"]}
    metadata = {"description": "What for", "owner": "team", "tags": "x, y", "n": 7, "beta": True}
    document = one_flag(targeting, metadata=metadata)

    imported = read_flagd(
        {**document, "$evaluators": {"staff": {"==": [VAR, "yes"]}, "not used": 1}}
    )

    (flag,) = map(read_flag, imported.flags)
    assert (flag.description, flag.owner) == ("What for", "team")
    assert flag.tags == ("x", "y", "n=7", "beta=true")
    assert [found["name"] for found in imported.segments] == ["staff"]
    assert evaluate_imported(imported, "flag", {"x": "yes"}).variant == "b"
    assert evaluate_imported(imported, "flag", {"x": "no"}).variant == "a"


@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize("key", ["", None])
def test_who_has_no_targeting_key_gets_the_default_variant_without_an_error(
    version: FlagdHash, key: str | None
) -> None:
    document = one_flag({"fractional": [["b", 1]]})

    found = evaluate_imported(read_flagd(document, version), "flag", {"targetingKey": key})

    assert serve_by_flagd(document, key, {}, version)[0] == found.variant == "a"
    assert (found.reason, found.lacks_targeting_key) == ("DEFAULT", False)


@pytest.mark.parametrize("by", [None, {"var": "x"}, {"cat": ["salt-", {"var": "x"}]}])
def test_a_cohort_of_one_hash_is_another_one_by_the_other(by: Json) -> None:
    split = [["b", 10], ["a", 90]]
    document = one_flag({"fractional": split if by is None else [by, *split]})
    questions = [(f"user-{n}", {"x": f"{n}@example.com"}) for n in range(500)]

    served: dict[FlagdHash, list[str | None]] = {}
    for version in ("v2", "v3"):
        imported = read_flagd(document, version)
        served[version] = [ours(imported, *one)[0] for one in questions]
        assert served[version] == [serve_by_flagd(document, *one, version)[0] for one in questions]
    lost = [was == "b" != now for was, now in zip(served["v2"], served["v3"], strict=True)]
    assert sum(lost) > 25


@pytest.mark.parametrize("by", [None, {"var": "x"}, {"cat": ["salt-", {"var": "x"}]}])
def test_the_core_for_javascript_serves_the_cohorts_of_the_older_hash(by: Json) -> None:
    split = [["b", 10], ["a", 90]]
    document = one_flag({"fractional": split if by is None else [by, *split]})
    contexts: list[Json] = [{"targetingKey": f"u{n}", "x": f"{n}@example.com"} for n in range(500)]
    contexts += [{"targetingKey": "", "x": 5}, {}]
    program = Program(["node", INTEROP / "flagd_core.mjs"])

    try:
        served = program.ask("variants", document=document, flag="flag", contexts=contexts)
    finally:
        program.close()

    imported = read_flagd(document, "v2")
    assert [evaluate_imported(imported, "flag", one).variant for one in contexts] == served


@pytest.mark.parametrize(("hash_name", "version"), [("flagd-1", "v3"), ("flagd-2", "v2")])
def test_an_export_for_the_other_hash_is_refused_and_names_the_right_one(
    hash_name: str, version: FlagdHash
) -> None:
    rollout = {**EVERYTHING, "hash": hash_name}

    written, report = write_flagd([read_flag(own_flag(**rule({"rollout": rollout})))], [], version)

    assert written == {"flags": {}}
    assert [note.pointer for note in report] == ["/rules/0/serve/rollout/hash"]
    assert f"hash={'v2' if hash_name == 'flagd-1' else 'v3'}" in report[0].reason


@pytest.mark.parametrize("by", ["targetingKey", "org"])
@pytest.mark.parametrize("salt", ["flag", "other", ""])
def test_a_rollout_by_the_older_hash_goes_to_flagd_with_any_salt(salt: str, by: str) -> None:
    rollout = {**EVERYTHING, "hash": "flagd-1", "salt": salt, "by": by}
    flag = own_flag(**rule({"rollout": rollout}))
    written, report = write_flagd([read_flag(flag)], [], "v2")

    there = ImportedFlags((flag,), (), ())
    back = read_flagd(written, "v2")
    assert (report, back.report) == ((), ())
    for number in range(100):
        context = {"org": f"org {number}"}
        found = serve_by_flagd(written, f"u{number}", context)
        assert found == ours(there, f"u{number}", context) == ours(back, f"u{number}", context)


def test_who_is_bucketed_by_a_fraction_gets_what_those_get_who_have_nothing() -> None:
    document = one_flag({"fractional": [{"cat": ["salt-", VAR]}, ["b", 1], ["a", 1]]})
    imported = read_flagd(document)

    nothing = serve_by_flagd(document, None, {})
    assert ours(imported, None, {"x": 1.5}) == ours(imported, None, {}) == nothing
    assert serve_by_flagd(document, None, {"x": 1.5}) != nothing


EVERYTHING = {"by": "targetingKey", "salt": "flag", "hash": "flagd-1", "weights": {"a": 1, "b": 1}}
NEWEST = {**EVERYTHING, "hash": "flagd-2"}
WHEN = {"attribute": "x", "op": "in", "values": ["y"]}


def own_flag(**members: Json) -> Json:
    flag = {"name": "flag", "type": "string", "variants": {"a": "A", "b": "B"}}
    return {**flag, "default_variant": "a", "enabled": True, **members}


def rule(serve: Json | None = None, **members: Json) -> Json:
    return {"rules": [{"serve": serve or {"variant": "b"}, **members}]}


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"prerequisites": [{"flag": "other", "variants": ["on"]}]}, "/prerequisites"),
        (rule(active={"from": "2026-01-01T00:00:00Z"}), "/rules/0/active"),
        (rule({"rollout": {**NEWEST, "salt": "other"}}), "/rules/0/serve/rollout/salt"),
        (rule({"rollout": {**NEWEST, "by": "org"}}), "/rules/0/serve/rollout/by"),
        (rule({"rollout": {"weights": {"a": 50, "b": 50}}}), "/rules/0/serve/rollout/hash"),
        (rule(when={"rollout": {"salt": "", "percent": 1}}), "/rules/0/when"),
        (rule(when={"not": {**WHEN, "op": "matches"}}), "/rules/0/when/not/op"),
        (
            rule(when={"all": [WHEN, {**WHEN, "op": "cidr", "values": ["::1"]}]}),
            "/rules/0/when/all/1/op",
        ),
        (rule(when={**WHEN, "case_insensitive": True}), "/rules/0/when/case_insensitive"),
        (rule(when={**WHEN, "attribute": "x.length"}), "/rules/0/when/attribute"),
        (rule(when={"segment": "matching"}), "/segments/matching/when/op"),
        (rule(when={"segment": "nobody"}), "/rules"),
    ],
)
def test_what_flagd_cannot_say_is_reported_by_its_place_in_the_flag(
    members: Json, pointer: str
) -> None:
    segment = {"name": "matching", "when": {**WHEN, "op": "matches"}}

    flags = [read_flag(own_flag(**members))]
    written, report = write_flagd(flags, [read_segment(segment)], "v3")

    assert written == {"flags": {}}
    assert [(note.flag, note.pointer) for note in report] == [("flag", pointer)]


def test_a_disabled_flag_serves_in_flagd_what_it_serves_here() -> None:
    off = read_flag(own_flag(enabled=False, off_variant="b", **rule({"variant": "a"})))
    nothing = read_flag(own_flag(enabled=False))

    assert serve_by_flagd(write_flagd([off], [])[0], "u", {}) == ("b", "B")
    assert serve_by_flagd(write_flagd([nothing], [])[0], "u", {}) == (None, None)


def test_segments_in_segments_are_written_in_the_order_in_which_flagd_replaces_them() -> None:
    inner = {"name": "a-inner", "when": WHEN}
    outer = {"name": "outer", "when": {"not": {"segment": "a-inner"}}}
    flag = read_flag(own_flag(**rule(when={"segment": "outer"})))

    written, report = write_flagd([flag], [read_segment(inner), read_segment(outer)])

    assert (report, list(written["$evaluators"])) == ((), ["outer", "a-inner"])
    assert serve_by_flagd(written, "u", {"x": "y"})[0] == "a"
    assert serve_by_flagd(written, "u", {"x": "z"})[0] == "b"


SHARES = (0.0, 100.0, 25.0, 12.5, 0.001)


@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize("percentage", SHARES)
def test_percentages_go_to_flagd_where_it_computes_nothing_and_elsewhere_if_they_are_drawn_anew(
    percentage: float, version: FlagdHash
) -> None:
    definition = {"name": "flag", "rollout_percentage": percentage, "target_users": ["ann", "bob"]}
    flag = read_flag_body(definition)

    exact, report = write_flagd([flag], [], version)
    redrawn, nothing = write_flagd([flag], [], version, redraws=True)

    is_exact = percentage in (0.0, 100.0)
    assert [note.pointer for note in report] == (
        [] if is_exact else ["/rules/1/serve/rollout/hash"]
    )
    assert (list(exact["flags"]), nothing) == (["flag"] if is_exact else [], ())
    served = [serve_by_flagd(redrawn, f"user-{number}", {}, version)[1] for number in range(2000)]
    if is_exact:
        assert exact == redrawn
        assert set(served) == {percentage == 100.0}
        assert serve_by_flagd(exact, None, {}, version)[1] is (percentage == 100.0)
    else:
        # By five standard deviations.
        share, deviation = percentage / 100, (percentage / 100 * (1 - percentage / 100)) ** 0.5
        assert abs(served.count(True) / 2000 - share) <= 5 * deviation / 2000**0.5
    assert [serve_by_flagd(redrawn, user, {}, version)[1] for user in ("ann", "bob")] == [
        True,
        True,
    ]


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_a_redrawn_rollout_keeps_its_attribute_and_its_weights(version: FlagdHash) -> None:
    weights = {"a": 12.345, "b": 87.655}
    rollout = {"by": "org", "salt": "other", "weights": weights}
    flag = read_flag(own_flag(**rule({"rollout": rollout})))

    written, report = write_flagd([flag], [], version, redraws=True)

    assert report == ()
    (_, serve) = written["flags"]["flag"]["targeting"]["if"]
    assert serve["fractional"] == [
        {"cat": ["other", {"var": "org"}]},
        ["a", 2469],
        ["b", 17531],
    ]
    served = [serve_by_flagd(written, "u", {"org": f"org-{n}"}, version)[0] for n in range(1000)]
    assert 70 < served.count("a") < 190
    assert (
        serve_by_flagd(written, "u", {}, version)[0] == "a"
    )  # the default: there is no such attribute


FRACTIONS: list[tuple[Json, Json]] = [
    (None, [[False, 0], [True, 100]]),
    (None, [[False, 100], [True, 0]]),
    (None, [[True, 30], [False, 70]]),
    (None, [["", 3], ["x", 1], [0, 1], ["y", 3]]),
    ({"var": "x"}, [["one", 50], ["two", 50]]),
    ({"var": "targetingKey"}, [["one", 0], ["two", 0]]),
    ({"var": ["x", "nobody"]}, [[True, 1], [False, 1]]),
    ({"cat": ["salt-", {"var": "x"}]}, [[True, 25], [False, 75]]),
    ("a text for all", [[True, 50], [False, 50]]),
]


@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize(("by", "split"), FRACTIONS)
def test_a_fractional_is_a_condition_for_whom_it_yields_something_truthy(
    version: FlagdHash, by: Json, split: Json
) -> None:
    if version == "v3" and isinstance(by, dict) and "cat" in by:
        by = {"cat": ["salt-", {"var": "x"}]}
    fractional = {"fractional": split if by is None else [by, *split]}
    plain = one_flag({"if": [fractional, "b", "a"]})
    turned = one_flag({"if": [{"and": [{"!": fractional}, {"!": {"var": "off"}}]}, "b", "a"]})
    questions: list[tuple[str | None, Json]] = [(f"u{n}", {"x": f"x{n}"}) for n in range(100)]
    questions += [(None, {}), ("u", {"x": None}), ("u", {"x": 5}), ("u", {"off": True})]

    for document in (plain, turned):
        imported = read_flagd(document, version)
        assert imported.report == ()
        for key, context in questions:
            assert ours(imported, key, context) == serve_by_flagd(document, key, context, version)


@pytest.mark.parametrize(
    ("fractional", "pointer"),
    [
        ([[{"var": "y"}, 1], [True, 1]], "/0/0"),
        ([[True, 1], [False, 6]], ""),  # a seventh is no multiple of 0.001 percent
        ([], ""),
    ],
)
def test_a_fractional_that_is_no_condition_here_is_reported(fractional: Json, pointer: str) -> None:
    imported = read_flagd(one_flag({"if": [{"fractional": fractional}, "b", "a"]}))

    assert imported.flags == ()
    assert [note.pointer for note in imported.report] == [
        f"/flags/flag/targeting/if/0{'/fractional' if pointer else ''}{pointer}"
    ]


NUMERIC = [1, 2, 1.2, 1.5, 2.0, 1.1, 3, -1, 10**30, 1e21, True, None, "2", "1.1.0-rc.1"]


@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize("sign", ["=", "!=", "<", "<=", ">", ">=", "^", "~"])
@pytest.mark.parametrize("limit", ["1.1", "2", "v1.2.0"])
def test_a_version_may_be_a_number(version: FlagdHash, sign: str, limit: str) -> None:
    document = one_flag({"if": [{"sem_ver": [VAR, sign, limit]}, "b", "a"]})
    imported = read_flagd(document, version)

    for value in NUMERIC:
        assert ours(imported, "u", {"x": value}) == serve_by_flagd(
            document, "u", {"x": value}, version
        )


def test_the_old_fraction_says_that_its_cohorts_cannot_be_kept() -> None:
    legacy = {"fractionalEvaluation": ["email", ["a", 25], ["b", 75]]}
    for targeting in (legacy, {"if": [VAR, legacy]}, {"if": [legacy, "b"]}):
        (note,) = read_flagd(one_flag(targeting)).report
        assert "another hash" in note.reason


def test_evaluators_may_be_in_another_document() -> None:
    flags = one_flag({"if": [{"$ref": "staff"}, "b"]})
    evaluators = {"$evaluators": {"staff": {"==": [VAR, "yes"]}}}
    more = {"flags": {"other": one_flag({})["flags"]["flag"]}, "metadata": {"set": "more"}}

    alone = read_flagd(flags)
    imported = read_flagd([flags, evaluators, more, evaluators])

    assert alone.flags == ()
    assert [found["name"] for found in imported.flags] == ["flag", "other"]
    assert [found["name"] for found in imported.segments] == ["staff"]
    assert evaluate_imported(imported, "flag", {"x": "yes"}).variant == "b"
    assert [read_flag(found).tags for found in imported.flags] == [(), ("set=more",)]


@pytest.mark.parametrize(
    ("documents", "pointer"),
    [
        ([{"$evaluators": {}}], ""),
        ([one_flag({}), []], "/1"),
        ([one_flag({}), one_flag({"if": [VAR, "b"]})], "/1/flags/flag"),
        (
            [{**one_flag({}), "$evaluators": {"e": VAR}}, {"$evaluators": {"e": {"!": VAR}}}],
            "/1/$evaluators/e",
        ),
        ([{**one_flag({}), "metadata": 5}], "/0/metadata"),
    ],
)
def test_documents_that_contradict_each_other_are_refused(documents: Json, pointer: str) -> None:
    imported = read_flagd(documents)

    assert imported.flags == ()
    assert [note.pointer for note in imported.report] == [pointer]


def test_metadata_keeps_its_types_and_that_of_the_document_is_below_it() -> None:
    metadata = {"text": "1.0.2", "spelled": "2", "n": 2, "half": 0.5, "on": True, "quoted": '"x"'}
    document = {
        **one_flag({}, metadata=metadata),
        "metadata": {"n": 7, "flag-set": "c", "owner": "team"},
    }

    (flag,) = map(read_flag, read_flagd(document).flags)
    written, report = write_flagd([flag], [])

    assert metadata_of(flag) == {**metadata, "flag-set": "c"}
    assert flag.owner == "team"
    assert report == ()
    assert written["flags"]["flag"]["metadata"] == {**metadata, "flag-set": "c", "owner": "team"}


@pytest.mark.parametrize("metadata", [{"a": None}, {"a": [1]}, {"a=b": 1}, {"": 1}])
def test_metadata_that_is_no_tag_is_reported(metadata: Json) -> None:
    imported = read_flagd(one_flag({}, metadata=metadata))

    assert [note.pointer for note in imported.report] == ["/flags/flag/metadata"]


def test_a_default_of_the_code_has_the_reason_default() -> None:
    for members in ({"defaultVariant": None}, {"targeting": {"if": [VAR, "b"]}}):
        document = one_flag(**{"targeting": {}, "defaultVariant": None, **members})
        found = evaluate_imported(read_flagd(document), "flag", {"targetingKey": "u"})
        assert (found.variant, found.reason, found.error_code) == (None, "DEFAULT", None)
    assert evaluate_imported(read_flagd(one_flag({})), "flag", {}).reason == "STATIC"
