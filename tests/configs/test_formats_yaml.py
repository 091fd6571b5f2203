import pytest

from app.configs.formats import BadFile, FileTooComplex, Section, parse, render


def test_yaml_documents_become_sections() -> None:
    text = "---\n---\na: 1\n--- # nothing\n---\nspring.profiles: p\na.b: 2\n...\n---\n{}\n"

    assert parse(text, "yaml") == [
        Section((), {"a": 1}),
        Section(("p",), {"a.b": 2}),
        Section((), {}),
    ]


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("a: 1\n'a': 2", 2, 1, "the key 'a' is given twice in one mapping"),
        ("[1]", 1, 1, "a document that is not a mapping"),
        ("a: 1\n---\ntext", 2, 1, "a document that is not a mapping"),
        ("a:\n\t- b", 2, 1, "not YAML: found character that cannot start any token"),
        ("a: " + "[" * 64 + "]" * 64, 1, 67, "nested more than 64 levels deep"),
        ("a: 1\nb: 1e-400", 2, 4, "a number that a double cannot hold"),
    ],
)
def test_bad_yaml_is_a_bad_file_with_its_place(
    text: str, line: int, column: int, reason: str
) -> None:
    with pytest.raises(BadFile, match=f"^line {line}, column {column}: {reason}") as refused:
        parse(text, "yaml")

    assert refused.value.facts == {"line": line, "column": column}


def test_yaml_beyond_the_limits_is_too_complex() -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60))]

    with pytest.raises(FileTooComplex, match="line 15, column 18: more than 100000 values"):
        parse("\n".join(lines), "yaml")


def test_yaml_is_rendered_for_people() -> None:
    assert (
        render({"b": {"port": "8080"}, "a": ["1e3"]}, "yaml") == "b:\n  port: '8080'\na:\n- '1e3'\n"
    )
