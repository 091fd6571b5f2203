"""The glossary is in order, pictures are of kinds that Mermaid draws, links lead somewhere."""

import re

import pytest

from tests.docs.generate import ROOT
from tests.docs.test_tables import import_layers, rows, section

PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]+)?\)")


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    without_code = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_glossary_is_in_order_and_each_term_is_one_sentence() -> None:
    table = rows(section("docs/glossary.md", "## Terms"))
    terms = [row[0] for row in table]

    assert terms == sorted(set(terms), key=str.casefold)
    assert [term for term, meaning in table if not meaning or ". " in meaning] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
@pytest.mark.parametrize("target", ["docs/glossary.md", "docs/architecture.md"])
def test_glossary_and_architecture_are_linked(page: str, target: str) -> None:
    assert f"]({target})" in (ROOT / page).read_text()


def test_every_picture_is_of_a_kind_that_mermaid_draws() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    pictures = re.findall(r"^```mermaid\n(\w+)", text, re.MULTILINE)

    assert pictures
    assert set(pictures) <= {"flowchart", "sequenceDiagram"}


@pytest.mark.parametrize("heading", ["## Components", "## A write", "## How replicas follow"])
def test_the_architecture_has_a_picture_of_each_part(heading: str) -> None:
    assert "```mermaid" in section("docs/architecture.md", heading)


def test_the_picture_of_imports_has_every_package_in_the_order_of_the_contract() -> None:
    picture = section("docs/architecture.md", "## Components").split("```mermaid\n")[2]
    boxes = re.findall(r'\["([a-z, ]+)<br/>', picture)
    drawn = [name for box in boxes for name in box.split(", ")]
    modules = {entry.stem for entry in (ROOT / "app").iterdir()}
    packages = {entry.parent.name for entry in (ROOT / "app").glob("*/__init__.py")}
    order = [name for layer in import_layers() for name in layer.split(" | ")]

    assert set(drawn) <= modules
    assert packages <= set(drawn)
    assert drawn == sorted(drawn, key=order.index)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_page_and_a_heading(page: str) -> None:
    source = ROOT / page
    for path, anchor in LINK.findall(source.read_text()):
        target = (source.parent / path).resolve() if path else source
        assert target.exists(), path
        if anchor and target.suffix == ".md":
            assert anchor[1:] in anchors(target.read_text()), f"{path}{anchor}"
