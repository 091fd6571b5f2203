import pytest

from app.configs.formats import BadFile, NameClash, parse, render


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
        ("A=1\nB='\n'\nA=2", "line 4: the name 'A' stands in line 1 already"),
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
        "text": 'two "lines"\nof it\'s $',
        "expression": "${random.uuid}",
        "secret": {"$secret": "masked"},
    }

    assert render(data, "dotenv").splitlines() == [
        "DB_POOL_SIZE=5",
        'DB_URL="jdbc:h2://h:1/a?b"',
        "DB_HOST=h",
        'LIST="[1,{\\"a\\":\\"é\\"}]"',
        "NONE=null",
        r'TEXT="two \"lines\"\nof it' + "'" + r's \$"',
        "EXPRESSION='${random.uuid}'",
        "# secret is a secret and left out",
    ]


def test_two_keys_in_one_dotenv_name_are_refused() -> None:
    with pytest.raises(NameClash) as clash:
        render({"a": {"b": 1}, "a-B": 2}, "dotenv")

    assert clash.value.facts == {"keys": ["a.b", "a-B"], "name": "A_B"}
