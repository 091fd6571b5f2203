import pytest

from app.configs.formats import BadFile, Section, parse, render


def single(text: str) -> dict[str, object]:
    (section,) = parse(text, "properties")
    return section.data


def refusal(text: str) -> str:
    with pytest.raises(BadFile) as refused:
        parse(text, "properties")
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a=1\nb:2\nc 3\nd\te", {"a": "1", "b": "2", "c": "3", "d": "e"}),
        ("a = 4\nb\nc=", {"a": "4", "b": "", "c": ""}),
        ("a==b\nc= : d\ne:=f", {"a": "=b", "c": ": d", "e": "=f"}),
        ("# a=1\n  ! b=2\nc=#3", {"c": "#3"}),
        ("a=1 \\\n   2\\\r\n3\nb=4\\\\\nc=5\\", {"a": "1 23", "b": "4\\", "c": "5"}),
        ("a=1\\\n# 2", {"a": "1# 2"}),
        ("a\\ b\\:\\=c=d\\te\\z", {"a b:=c": "d\tez"}),
        ("a=\\u00e9\\ud83d\\ude00\\\\u0041", {"a": "é😀\\u0041"}),
        ("a=1\rb=2\r\n\r\nc=3  ", {"a": "1", "b": "2", "c": "3  "}),
        ("a.b=1\na.c=2", {"a.b": "1", "a.c": "2"}),
        ("a[1]=y\na[0]=x", {"a": ["x", "y"]}),
        (
            "a.b[0].c.d=1\na.b[0].e=2\na.b[1].e=3",
            {"a.b": [{"c": {"d": "1"}, "e": "2"}, {"e": "3"}]},
        ),
        (
            "a[0][c.d]=1\na[0].c.d=2\na[0].0=3\na[0].e\\ f=4\na[0][/x]=5",
            {"a": [{"c.d": "1", "c": {"d": "2"}, "0": "3", "e f": "4", "/x": "5"}]},
        ),
        ("a[0][0]=1\na[0][1]=2\na[1][0]=3", {"a": [["1", "2"], ["3"]]}),
        ("a[b.c]=1", {"a[b.c]": "1"}),
    ],
)
def test_properties_are_read_as_java_reads_them(text: str, data: dict[str, object]) -> None:
    assert single(text) == data


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a=1\n\na = 2", "line 3: the key 'a' is already set in line 1"),
        ("a=1\n\\u0061=2", "line 2: the key 'a' is already set in line 1"),
        ("a=1\na[0]=2", "line 2: the key 'a[0]' conflicts with an earlier key"),
        ("a[0]=1\na=2", "line 2: the key 'a' conflicts with an earlier key"),
        ("a[0]=1\na[0].b=2", "line 2: the key 'a[0].b' conflicts with an earlier key"),
        ("a[0].b=1\na[0][0]=2", "line 2: the key 'a[0][0]' conflicts with an earlier key"),
        ("a[0]=1\na[2]=2", "the list 'a' has no item [1]"),
        ("a.b[0].c[1]=2", "the list 'a.b[0].c' has no item [0]"),
        ("a[0]b=2", "line 1: the key 'a[0]b' has an index without meaning"),
        ("[0]=2", "line 1: the key '[0]' has an index without meaning"),
        (f"a[{'9' * 5000}]=2", "has an index without meaning"),
        ("a=\\u12", "line 1: fewer than four hexadecimal digits after \\u"),
        ("a=\\ud800", "line 1: half of a surrogate pair"),
        ("a=\\u0000", "line 1: a NUL character"),
        ("a" + "[0]" * 64 + "=1", "line 1: nested more than 64 levels deep"),
    ],
)
def test_properties_are_refused_with_their_line(text: str, reason: str) -> None:
    assert reason in refusal(text)


def test_separators_split_properties_into_sections() -> None:
    text = "a=1\n#---\nspring.config.activate.on-profile=p\na=2\n!---\n\n#---\nb=3"

    assert parse(text, "properties") == [
        Section((), {"a": "1"}),
        Section(("p",), {"a": "2"}),
        Section((), {"b": "3"}),
    ]


@pytest.mark.parametrize("banner", ["# x\n#---\n", "#---\n# x\n", " #---\n", "#----\n", "#-- -\n"])
def test_a_banner_is_no_separator(banner: str) -> None:
    assert parse(f"a=1\n{banner}b=2", "properties") == [Section((), {"a": "1", "b": "2"})]


def test_properties_are_rendered_flat_and_in_ascii() -> None:
    data = {
        "a": {"b c": " é😀", "d": "x=y: #z\\\n"},
        "list": ["x", {"y": True}, [1.5]],
        "none": None,
        "empty": [],
        "port": 8080,
        "secret": {"$secret": "masked", "fingerprint": "f"},
    }

    assert render(data, "properties").splitlines() == [
        r"a[b\ c]=\ \u00e9\ud83d\ude00",
        r"a.d=x=y: #z\\\n",
        "list[0]=x",
        "list[1].y=true",
        "list[2][0]=1.5",
        "none=",
        "empty=",
        "port=8080",
        "# secret is a secret and left out",
    ]
