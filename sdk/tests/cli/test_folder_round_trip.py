"""A folder is exported, applied to an empty installation and exported again: nothing differs.

But for secrets, which no file holds: what the other installation lacks is listed.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.cli.exit_codes import ExitCode
from pilothouse.cli.folders.entries import Content, Entry
from pilothouse.cli.folders.folder import GROUPS, read_folder, write_folder
from pilothouse.cli.folders.plan import patch_of
from pilothouse_core.diff import is_same
from pilothouse_core.keys import is_member, names_of
from pilothouse_core.trees import (
    OWN_VALUE,
    SECRET,
    copy_sections,
    is_secret,
    leaves,
    merge_into,
    scalars,
    without_key,
)
from sdk.tests.cli.conftest import ADMIN
from sdk.tests.cli.terminal import Done, Terminal
from tests.servers.service import ServiceProcess
from tests.trials import trials

LONGEST = 12
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=LONGEST)
multiline = st.sampled_from(
    ["a\nb\n", " leading", "no", "1e3", "0o17", "~", "2020-01-01", "a: b", ""]
)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
plain = st.none() | st.booleans() | numbers | texts | multiline
secrets = (texts | st.integers(0, 99)).map(lambda value: {SECRET: {"value": value}})
odd_names = st.sampled_from(
    ["[a.b]", "k8s io/os", "on", "null", "0", "01", "-", "ü", "[x[0]]", "'", "#", "a:b", "%2e", "~"]
)
names = (st.from_regex(r"[a-z][a-z0-9_-]{0,4}", fullmatch=True) | odd_names).filter(
    lambda name: is_member(name) and names_of(name) == (name,)
)
items = st.recursive(
    plain | secrets,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    ),
    max_leaves=5,
)
leaf: st.SearchStrategy[Any] = plain | secrets | st.lists(items, max_size=3) | st.just({})


def sections(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    members = st.dictionaries(names, inner, min_size=1, max_size=3)
    own = st.builds(lambda tree, value: {**tree, OWN_VALUE: value}, members, plain | secrets)
    return members | own


documents = st.dictionaries(names, st.recursive(leaf, sections, max_leaves=6), max_size=4)
layers = st.builds(
    Entry,
    st.just("config"),
    st.sampled_from(["default", "production"]),
    st.sampled_from(["_shared", "orders", "aux", "users"]),
    st.sampled_from(["", "me", "a+b@c.d"]),
)


@st.composite
def flags(draw: st.DrawFn) -> Content:
    """A flag of one type with a rollout; archived or not."""
    kind, values = draw(
        st.sampled_from(
            [
                ("boolean", st.booleans()),
                ("string", texts),
                ("object", st.dictionaries(texts, plain, max_size=2)),
            ]
        )
    )
    weight = draw(st.integers(0, 100))
    rollout = {"by": "user_id", "salt": draw(st.sampled_from("abc")), "hash": "murmur3-1"}
    weights = {"one": weight, "on": 100 - weight}
    flag = {
        "description": draw(texts),
        "type": kind,
        "variants": {"one": draw(values), "on": draw(values)},
        "default_variant": draw(st.sampled_from(["one", "on", None])),
        "enabled": draw(st.booleans()),
        "rules": [{"id": "r", "when": None, "serve": {"rollout": {**rollout, "weights": weights}}}],
    }
    return {**flag, "archived": True} if draw(st.booleans()) else flag


flag_entries = st.builds(
    Entry, st.just("flag"), st.just("production"), st.sampled_from(["f", "nul"])
)


@pytest.fixture(scope="module")
def terminals() -> Iterator[tuple[Terminal, Terminal]]:
    """Terminals of the administrators of two services."""
    options = {"PILOTHOUSE_ACCESS": "required", "PILOTHOUSE_ADMIN_TOKEN": ADMIN}
    with ServiceProcess(options) as one, ServiceProcess(options) as other:
        yield terminal_of(one), terminal_of(other)


def terminal_of(service: ServiceProcess) -> Terminal:
    home = Path(tempfile.gettempdir(), "nowhere")
    return Terminal(home, {"PILOTHOUSE_URL": service.url, "PILOTHOUSE_TOKEN": ADMIN})


def apply_all(terminal: Terminal, folder: Path) -> Done:
    done = terminal("apply", folder, "--prune", "--yes")
    assert done.code in {ExitCode.OK, ExitCode.INCOMPLETE}, done.err
    return done


def contents_of(folder: Path) -> dict[Entry, Content]:
    return {entry: file.content for entry, file in read_folder(folder).files.items()}


def without_masks(tree: Content) -> Content:
    for key, value in list(leaves(tree)):
        if any(is_secret(inner) for _, inner in scalars(value, key)):
            tree = without_key(tree, key)
    return tree


@settings(max_examples=trials(25))
@given(
    st.dictionaries(layers, documents, max_size=4),
    st.dictionaries(flag_entries, flags(), max_size=2),
)
def test_a_round_trip_is_exact_except_secrets(
    terminals: tuple[Terminal, Terminal],
    configs: dict[Entry, Content],
    defined: dict[Entry, Content],
) -> None:
    one, other = terminals
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_folder(root / "wanted", {**configs, **defined}, GROUPS, prune=False)
        apply_all(one, root / "wanted")
        one.ok("export-all", root / "first")
        first = contents_of(root / "first")
        assert one.ok("apply", root / "first", "--prune", "--yes").out == "nothing to change\n"

        done = apply_all(other, root / "first")
        other.ok("export-all", root / "second")
        again = apply_all(other, root / "first")
        second = contents_of(root / "second")

    expected = {entry: without_masks(content) for entry, content in first.items()}
    lost = {entry for entry in first if first[entry] != {} and expected[entry] == {}}
    assert is_same(
        {entry.label: content for entry, content in second.items()},
        {entry.label: content for entry, content in expected.items() if entry not in lost},
    )
    assert again.out == "nothing to change\n"
    lacks = any(not is_same(first[entry], expected[entry]) for entry in first)
    assert (done.code == ExitCode.INCOMPLETE) == (again.code == ExitCode.INCOMPLETE) == lacks


@settings(max_examples=trials(300))
@given(documents, documents)
def test_a_patch_leads_from_any_layer_to_any_other(before: Content, after: Content) -> None:
    additions, removals = patch_of(before, after)

    tree = copy_sections(before)
    for key in removals:
        tree = without_key(tree, key)
    merge_into(tree, additions)
    assert is_same(tree, after)
