import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from app.configs.formats import (
    BadFile,
    Format,
    NameClash,
    NotExpressible,
    Section,
    parse,
    render,
)
from pilothouse_core.keys import is_member, key_of, names_of
from pilothouse_core.trees import leaves, nested_tree
from tests.trials import trials

PETCLINIC = Path(__file__).parents[1] / "data" / "petclinic"

quick = settings(max_examples=trials(100))

# What other readers of YAML take for something else, and what a line-based format trips over.
_TRAPS = [
    *("yes", "no", "on", "off", "y", "N", "true", "null", "~", "", "=", "<<", "-", "?", "*", "&a"),
    *("8080", "010", "09", "0x1F", "0o17", "1_000", "0x_", "1.5", ".5", "+.5", "1e3", "1.0e+3"),
    *("12:30", "1:30:00.5", "2001-01-01", "2001-1-1", "2001-01-01T10:00:00Z", ".inf", "-.INF"),
    *(".nan", "a: b", "a #b", "# a", "a\nb", "\na", " a", "a ", "a\t", "\n", "a\n\n", "  a\n b"),
    *(
        "a\r\nb",
        "\r",
        "\x85",
        "\u2028",
        "\ufeff",
        "😀",
        "é",
        "\x07",
        "'",
        '"',
        "\\",
        "\\n",
        "$HOME",
    ),
    *("${a:b}", "it's $5", "`id`", "a=b", "!x", "%a", "@a", "--- a", "...", "#---", "!---\n#---"),
]
texts = st.sampled_from(_TRAPS) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)


def trees(
    names: st.SearchStrategy[str], leaf: st.SearchStrategy[object]
) -> st.SearchStrategy[dict[str, object]]:
    inner = st.recursive(
        leaf,
        lambda below: st.lists(below, max_size=3) | st.dictionaries(names, below, max_size=3),
        max_leaves=10,
    )
    return st.dictionaries(names, inner, max_size=4)


def sections(
    names: st.SearchStrategy[str], leaf: st.SearchStrategy[object]
) -> st.SearchStrategy[dict[str, object]]:
    """Trees that flat formats can hold: nothing empty but the whole."""
    below = st.recursive(
        leaf, lambda inner: st.dictionaries(names, inner, min_size=1, max_size=3), max_leaves=10
    )
    return st.dictionaries(names, below, max_size=4)


# What Spring's own keys mean (when a section applies) has its own tests.
names = texts.filter(lambda name: "spring" not in re.sub("[-_]", "", name).lower())
segments = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)


def single(text: str, kind: Format) -> dict[str, object]:
    (section,) = parse(text, kind)
    assert section.profiles == ()
    return section.data


def refusal(text: str, kind: Format = "yaml") -> str:
    with pytest.raises(BadFile) as refused:
        parse(text, kind)
    return str(refused.value)


@pytest.mark.parametrize("kind", ["yaml", "json"])
@quick
@given(data=trees(names, scalars))
def test_what_is_rendered_is_parsed_to_the_same(kind: Format, data: dict[str, object]) -> None:
    # As text, so that the order counts, and 1, 1.0 and true are not the same.
    assert repr(single(render(data, kind), kind)) == repr(data)


@quick
@given(trees(names, texts))
def test_text_stays_text_for_other_readers_of_yaml(data: dict[str, object]) -> None:
    assert yaml.safe_load(render(data, "yaml")) == data


@quick
@given(sections(segments, texts | st.lists(texts, min_size=1, max_size=3)))
def test_text_survives_properties(data: dict[str, object]) -> None:
    parsed = parse(render(data, "properties"), "properties")

    assert [nested_tree(section.data) for section in parsed] == ([data] if data else [])


@quick
@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True), texts))
def test_text_survives_dotenv(data: dict[str, object]) -> None:
    try:
        text = render(data, "dotenv")
    except NotExpressible:
        return
    parsed = parse(text, "dotenv")

    assert [section.data for section in parsed] == ([data] if data else [])


# A stored document: its members have any names, and what it holds any values, secrets among them.
_SECRETS = st.builds(lambda value: {"$secret": {"value": value}}, scalars | st.lists(scalars))
_MEMBERS = names.filter(is_member).map(lambda name: names_of(key_of([name]))[0])
_INSIDE_LISTS = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(names, below, max_size=3),
    max_leaves=6,
)
documents = st.dictionaries(
    _MEMBERS,
    st.recursive(
        scalars | _SECRETS | st.lists(_INSIDE_LISTS, max_size=3),
        lambda below: st.dictionaries(_MEMBERS, below, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@pytest.mark.parametrize("kind", get_args(Format))
@quick
@given(data=documents)
def test_a_document_comes_back_from_a_file_unchanged(kind: Format, data: dict[str, object]) -> None:
    try:
        text = render(data, kind, types=True)
    except (NotExpressible, NameClash):
        return
    read = [nested_tree(section.data) for section in parse(text, kind, types=True)]

    assert repr(dict(leaves(read[0] if read else {}))) == repr(dict(leaves(data)))


def test_one_name_is_not_written_twice() -> None:
    data: dict[str, object] = {"l": [{"a.b": 1, "a": {"b": 2}, "0": 3, "": 4, "x]\\": {"y": 5}}]}

    text = render(data, "properties", types=True)

    assert "l[0][a.b]=1" in text
    assert "l[0].a.b=2" in text
    assert "l[0].0=3" in text
    (section,) = parse(text, "properties", types=True)
    assert section.data == data


@pytest.mark.parametrize("text", ["a\u2028b", "\x85", "x\n\u2029 y", "\u2028"])
def test_breaks_of_old_are_escaped_in_yaml(text: str) -> None:
    rendered = render({"a": text, text: [text]}, "yaml")

    assert not {"\x85", "\u2028", "\u2029"}.intersection(rendered)
    assert single(rendered, "yaml") == {"a": text, text: [text]}


def test_types_in_properties_are_comments_before_what_is_not_text() -> None:
    data: dict[str, object] = {
        "port": 8080,
        "on": True,
        "none": None,
        "empty": [],
        "nothing": {},
        "text": "8080",
        "list": ["a", 1, [], {}],
        "token": {"$secret": {"value": "hunter2"}},
        "masked": {"$secret": "masked"},
    }

    text = render(data, "properties", types=True)

    assert text.splitlines()[:2] == ["# type: number", "port=8080"]
    (section,) = parse(text, "properties", types=True)
    del data["masked"]
    assert section.data == data
    assert parse(text, "properties")[0].data["port"] == "8080"


@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_masked_secrets_are_rendered_as_they_are(kind: Format) -> None:
    data: dict[str, object] = {"a": {"$secret": "masked", "fingerprint": "f"}}

    assert single(render(data, kind), kind) == data


@pytest.mark.parametrize("kind", get_args(Format))
def test_a_leading_byte_order_mark_is_dropped(kind: Format) -> None:
    text = render({"A": "x"}, kind)

    assert parse("\ufeff" + text, kind) == parse(text, kind)


@pytest.mark.parametrize("kind", get_args(Format))
@pytest.mark.parametrize("unstorable", ["\0", "\ud800"])
def test_characters_that_no_store_takes_are_refused(kind: Format, unstorable: str) -> None:
    assert refusal(f"\n# {unstorable}", kind).startswith("line 2: a NUL character or half")


@pytest.mark.parametrize("kind", ["yaml", "properties", "dotenv"])
def test_a_file_without_content_has_no_sections(kind: Format) -> None:
    assert parse("", kind) == parse("# nothing\n\n", kind) == []


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("yaml", "password: hunter2\npassword: hunter2"),
        ("yaml", "password: *hunter2"),
        ("yaml", "password: !!int hunter2"),
        ("yaml", "password: !hunter2 hunter2"),
        ("yaml", "password: 'hunter2"),
        ("yaml", "password: hunter2: hunter2"),
        ("json", '{"password": "hunter2", "password": "hunter2"}'),
        ("json", '{"password": "hunter2'),
        ("properties", "password=hunter2\npassword=hunter2"),
        ("properties", "password=hunter2\\u12"),
        ("dotenv", "password=hunter2\npassword=hunter2"),
        ("dotenv", "password='hunter2"),
        ("dotenv", "hunter2"),
    ],
)
def test_no_value_is_in_a_message(kind: Format, text: str) -> None:
    with pytest.raises(BadFile) as refused:
        parse(text, kind)

    causes = [refused.value, refused.value.__cause__, refused.value.facts]
    assert "hunter2" not in "".join(map(str, causes))


@pytest.mark.parametrize(
    "spelling",
    [
        "spring.config.activate.on-profile: docker",
        "spring: {config: {activate: {on-profile: docker}}}",
        "spring.config: {activate.on-profile: docker}",
        "spring: {config.activate: {on-profile: docker}}",
        "spring.config.activate.onProfile: docker",
        "spring.config.activate.on-profile: [docker]",
        "spring.profiles: docker",
        "spring: {profiles: docker}",
    ],
)
def test_every_spelling_sends_a_section_to_its_environment(spelling: str) -> None:
    assert parse(f"{spelling}\na: 1", "yaml") == [Section(("docker",), {"a": 1})]


@pytest.mark.parametrize("names", ["a, b,a", "[a, b]", "['a,b']"])
def test_a_section_may_be_for_several_environments(names: str) -> None:
    text = f"spring.config.activate.on-profile: {names}"

    assert parse(text, "yaml") == [Section(("a", "b"), {})]


def test_only_parents_that_the_activation_leaves_empty_are_pruned() -> None:
    text = """
        spring: {config: {activate: {on-profile: a}, import: x}, empty: {}}
        spring.config.activate: {}
    """

    assert parse(text, "yaml") == [
        Section(
            ("a",),
            {"spring": {"config": {"import": "x"}, "empty": {}}, "spring.config.activate": {}},
        )
    ]


def test_settings_about_profiles_are_no_activation() -> None:
    data: dict[str, object] = {"spring": {"profiles": {"active": "a", "include": ["b"]}}}

    assert parse(render(data, "yaml"), "yaml") == [Section((), data)]


@pytest.mark.parametrize(
    ("expression", "profiles", "reason"),
    [
        ("a | b", ("a", "b"), ""),
        ("(a)", ("a",), ""),
        ("a & a", ("a",), ""),
        ("a & !b", ("a",), ""),
        ("a & (b | a)", ("a",), ""),
        ("!(!a)", ("a",), ""),
        ("(a | b) & !b", ("a",), ""),
        ("!a", (), "all environments except some"),
        ("a | !b", (), "all environments except some"),
        ("a,!b", ("a",), "all environments except some"),
        ("a & b", (), "several profiles at once"),
        ("default", (), "without any profile"),
        ("default, a", ("a",), "without any profile"),
        ("a & b | c", (), "not one that Spring reads"),
        ("a, (b", ("a",), "not one that Spring reads"),
        ("a &", (), "not one that Spring reads"),
        ("()", (), "not one that Spring reads"),
        ("!" * 500 + "a", (), "not one that Spring reads"),
    ],
)
def test_of_a_profile_expression_what_can_be_is_kept(
    expression: str, profiles: tuple[str, ...], reason: str
) -> None:
    [section] = parse(f"spring.config.activate.on-profile: '{expression}'\nx: 1", "yaml")

    assert section.profiles == profiles
    assert reason in section.left_out
    assert bool(reason) == bool(section.left_out)
    assert section.data == {"x": 1}


@pytest.mark.parametrize("name", ["no", "''", "','", "[]", "{a: b}", "12", "[[a]]", ""])
def test_a_profile_without_a_proper_name_is_refused(name: str) -> None:
    assert "profile" in refusal(f"spring.config.activate.on-profile: {name}")


def test_a_section_names_its_profiles_once() -> None:
    text = "spring.profiles: a\nspring.config.activate.on-profile: a"

    assert "more than once" in refusal(text)


@pytest.mark.parametrize("kind", ["yaml", "properties"])
def test_a_section_for_a_platform_is_left_out(kind: Format) -> None:
    text = "spring.config.activate.on-cloud-platform: kubernetes\na: b\n"

    [section] = parse(text + "spring.config.activate.on-profile: p", kind)

    assert (section.profiles, section.data) == ((), {"a": "b"})
    assert "on-cloud-platform" in section.left_out


def test_json_and_properties_have_profiles_too() -> None:
    assert parse('{"spring": {"profiles": "a"}, "b": 1}', "json") == [Section(("a",), {"b": 1})]
    assert parse("spring.config.activate.on-profile[0]=a\nb=1", "properties") == [
        Section(("a",), {"b": "1"})
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 2}', "the member 'a' occurs twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": 1e400}', "a number beyond every double"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ('{"a": "\\u0000"}', "a NUL character"),
        ("[" * 65 + "]" * 65, "nested more than 64 levels deep"),
        ("[]", "the file is not a JSON object"),
        ("", "Expecting value at line 1, column 1"),
    ],
)
def test_json_is_refused(text: str, reason: str) -> None:
    assert reason in refusal(text, "json")


def test_json_is_rendered_for_people() -> None:
    assert render({"b": "é", "a": [1]}, "json") == '{\n  "b": "é",\n  "a": [\n    1\n  ]\n}\n'


NO_PROFILE = "'default' is for programs without any profile, and an environment is a profile"
RANDOM_ID: dict[str, object] = {
    "eureka": {"instance": {"instance-id": "${spring.application.name}:${random.uuid}"}}
}
EUREKA: dict[str, object] = {
    "eureka": {"client": {"serviceUrl": {"defaultZone": "http://discovery-server:8761/eureka/"}}}
}


def on_docker(port: int) -> list[Section]:
    return [
        Section((), RANDOM_ID, NO_PROFILE),
        Section(("docker",), {"server": {"port": port}, **EUREKA}),
    ]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("admin-server", [Section((), {"server": {"port": 9090}}), Section(("docker",), EUREKA)]),
        (
            "api-gateway",
            [
                Section(
                    (),
                    {
                        "spring": {"reactor": {"context-propagation": "auto"}},
                        "server": {
                            "port": 8080,
                            "compression": {
                                "enabled": True,
                                "mime-types": "application/json,text/css,application/javascript",
                                "min-response-size": 2048,
                            },
                        },
                        "spring.messages.basename": "messages/messages",
                    },
                ),
                Section(("docker",), EUREKA),
            ],
        ),
        ("customers-service", on_docker(8081)),
        (
            "discovery-server",
            [
                Section(
                    (),
                    {
                        "server": {"port": 8761},
                        "eureka": {
                            "instance": {"hostname": "localhost"},
                            "client": {
                                "registerWithEureka": False,
                                "fetchRegistry": False,
                                "serviceUrl": {
                                    "defaultZone": (
                                        "http://${eureka.instance.hostname}:${server.port}/eureka/"
                                    )
                                },
                            },
                        },
                    },
                )
            ],
        ),
        ("genai-service", on_docker(8084)),
        (
            "tracing-server",
            [
                Section((), {"server": {"port": 9411}}),
                Section((), RANDOM_ID, NO_PROFILE),
                Section(("docker",), EUREKA),
            ],
        ),
        (
            "vets-service",
            [Section((), {"vets": {"cache": {"ttl": 60, "heap-size": 100}}}), *on_docker(8083)],
        ),
        ("visits-service", on_docker(8082)),
    ],
)
def test_petclinic_is_parsed_to_its_sections(file: str, expected: list[Section]) -> None:
    text = (PETCLINIC / f"{file}.yml").read_text(encoding="utf-8")

    assert parse(text, "yaml") == expected


def test_the_shared_file_of_petclinic_keeps_its_mixed_spellings() -> None:
    text = (PETCLINIC / "application.yml").read_text(encoding="utf-8")

    plain, chaos, docker, mysql = parse(text, "yaml")

    assert plain.profiles == ()
    assert plain.data["management.security.enabled"] is False
    assert plain.data["management.endpoints.web.exposure.include"] == "*"
    assert set(plain.data) > {"server", "spring", "management", "eureka"}
    assert chaos.profiles == ("chaos-monkey",)
    assert set(chaos.data) == {"management.endpoint.chaosmonkey.enabled", "chaos"}
    assert docker.profiles == ("docker",)
    assert dict(leaves(docker.data)) == {
        "management.tracing.export.zipkin.endpoint": "http://tracing-server:9411/api/v2/spans"
    }
    assert mysql.profiles == ("mysql",)
    assert dict(leaves(mysql.data))["spring.datasource.username"] == "root"


def test_every_file_of_petclinic_survives_rendering() -> None:
    files = sorted(PETCLINIC.glob("*.yml"))

    for path in files:
        for section in parse(path.read_text(encoding="utf-8"), "yaml"):
            data = nested_tree(section.data)
            assert nested_tree(single(render(data, "yaml"), "yaml")) == data
    assert len(files) == 9
