import pytest

from app.configs.formats import BadFile, NameClash, NotExpressible, parse, render
from pilothouse_core.trees import nested_tree


def single(text: str) -> dict[str, object]:
    (section,) = parse(text, "dotenv")
    return section.data


def refusal(text: str) -> str:
    with pytest.raises(BadFile) as refused:
        parse(text, "dotenv")
    return str(refused.value)


@pytest.mark.parametrize(
    ("line", "data"),
    [
        ("A=b", {"A": "b"}),
        ("  export A = b c  ", {"A": "b c"}),
        ("export=1", {"export": "1"}),
        ("a.b-c=1", {"a.b-c": "1"}),
        ("A=", {"A": ""}),
        ("A= # none", {"A": ""}),
        ("A=#b", {"A": "#b"}),
        ("A=b#c #d #e", {"A": "b#c"}),
        ("A='b # \\n $C'  # d", {"A": "b # \\n $C"}),
        ('A="b # \\n\\t\\"\\\\\\$ \\x $C" # d', {"A": 'b # \n\t"\\$ \\x $C'}),
        ("A='b\r\nc'\r\nD=\"e\nf\"\r\n", {"A": "b\nc", "D": "e\nf"}),
        ("A=it's", {"A": "it's"}),
        ("A=$B${C}", {"A": "$B${C}"}),
    ],
)
def test_dotenv_is_read(line: str, data: dict[str, object]) -> None:
    assert single(f"# comment\n\n{line}") == data


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A=1\nB='\n'\nA=2", "line 4: the name 'A' is already set in line 1"),
        ("A=1\nnothing", "line 2: neither NAME=value nor a comment"),
        ("export A", "line 1: neither NAME=value nor a comment"),
        ("A B=1", "line 1: neither NAME=value nor a comment"),
        ("=1", "line 1: neither NAME=value nor a comment"),
        ("é=1", "line 1: neither NAME=value nor a comment"),
        ("A=1\nB='c\n", "line 2: a quoted value is not closed, or something follows it"),
        ('A="c\\"', "line 1: a quoted value is not closed, or something follows it"),
        ('A="b"c', "line 1: a quoted value is not closed, or something follows it"),
        ("A='b'#c", "line 1: a quoted value is not closed, or something follows it"),
    ],
)
def test_dotenv_is_refused_with_its_line(text: str, reason: str) -> None:
    assert refusal(text) == reason


def test_dotenv_is_rendered_with_shell_names() -> None:
    data = {
        "db": {"pool-size": 5, "url": "jdbc:h2://h:1/a?b", "host": "h"},
        "list": [1, {"a": "é"}],
        "none": None,
        "text": 'two "lines"\nof $',
        "path": "C:\\new\\table",
        "share": "\\\\server\\share",
        "secret": {"$secret": "masked"},
        "shown": {"$secret": {"value": "hunter2"}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "x" * 70: 1,
    }

    assert render(data, "dotenv").splitlines() == [
        "DB_POOL_SIZE=5",
        "DB_URL='jdbc:h2://h:1/a?b'",
        "DB_HOST=h",
        """LIST='[1,{"a":"é"}]'""",
        "# none is null and left out",
        """TEXT='two "lines\"""",
        "of $'",
        "PATH='C:\\new\\table'",
        "SHARE=\\\\server\\share",
        "# secret is a secret and left out",
        "SHOWN=hunter2",
        "NODESELECTOR_KUBERNETES_IO_OS=linux",
        f"{'X' * 70}=1",
    ]


@pytest.mark.parametrize(
    "text", ["${HOME}", "a${B:-c}", "it's $5", "'\"", "a\\\\ b", "\\'\\", '"\r']
)
def test_a_value_that_readers_would_read_differently_is_refused(text: str) -> None:
    with pytest.raises(NotExpressible) as refused:
        render({"a": {"b": text}, "c": text, "d": 1}, "dotenv")

    assert refused.value.facts == {"keys": ["a.b", "c"]}
    assert text not in str(refused.value) or text == "'\""


def test_types_say_the_keys_and_types_of_variables() -> None:
    data = {
        "db": {"port": 5, "host": "h", "none": None, "odd\u2028A=1": True},
        "A": [],
        "B": {},
        "s": {"$secret": {"value": 1}},
    }

    text = render(data, "dotenv", types=True)

    assert text.splitlines()[:2] == ["# key: db.port", "# type: number"]
    assert '# key: "db[odd\\u2028A=1]"' in text
    assert "# type: secret number" in text
    assert single(text) == {"DB_PORT": "5", "DB_HOST": "h", "DB_ODD_A_1": "true"} | {
        "A": "[]",
        "B": "{}",
        "S": "1",
    }
    (section,) = parse(text, "dotenv", types=True)
    assert nested_tree(section.data) == data


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# type: integer\nA=1", "line 1: the type 'integer' is not known"),
        ("\n# type: number\nA=x", "line 3: the value is not of the type number"),
        ("# type: number\nA=1e-400", "line 2: the value is not of the type number: a number that"),
        ("# type: boolean\nA=1", "line 2: the value is not of the type boolean"),
        ("# key: b\nA=1\n# key: b\nC=1", "line 4: the key 'b' is given twice"),
        ('# key: "b\nA=1', "line 1: the key in a comment is not JSON"),
    ],
)
def test_types_that_are_wrong_are_refused_with_their_line(text: str, reason: str) -> None:
    with pytest.raises(BadFile) as refused:
        parse(text, "dotenv", types=True)

    assert str(refused.value).startswith(reason)
    assert parse(text, "dotenv")


def test_two_keys_in_one_dotenv_name_are_refused() -> None:
    with pytest.raises(NameClash) as clash:
        render({"a": {"b": 1}, "a-B": 2}, "dotenv")

    assert clash.value.facts == {"keys": ["a.b", "a-B"], "name": "A_B"}
