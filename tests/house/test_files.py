"""What holds for every file of the project, whoever wrote it."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Written so that none of these lines is found by itself.
REGISTRY = re.compile(
    r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|yarnpkg\.com|crates\.io|rubygems\.org"
    r"|(?:proxy|sum)\.golang\.org|repo1?\.maven\.(?:apache\.)?org|(?:index|registry|proxy)-url"
)
MACHINE = re.compile(r"(?<![\w.}])/(?:work|root|home/\w+)/")
OPEN_END = re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X])\b")
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
PINNED = re.compile(
    r"[A-Za-z0-9._-]+(?:\[[\w,-]+\])?==[^\s;]+(?: ; .+?)?((?: --hash=sha256:\w{64})+)"
)
OF_OTHERS = "app/web/assets/swagger-ui/"  # as they have published it
# What a checkout has beside the project, where git cannot be asked.
NOT_OURS = {".venv", ".git", "__pycache__", "dist", "node_modules"}


def _list_files() -> Iterator[Path]:
    """Yield every file git knows or would add; without git, every file that looks like ours."""
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    try:
        listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        for path in ROOT.rglob("*"):
            if not NOT_OURS.intersection(path.relative_to(ROOT).parts):
                yield path
        return
    yield from (ROOT / name for name in listing.stdout.split("\0") if name)


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Every file of the project that is text, by its path."""
    found = {}
    for path in _list_files():
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if b"\0" not in content:
                found[path.relative_to(ROOT).as_posix()] = content.decode()
    assert "pyproject.toml" in found
    return found


def lines_with(pattern: re.Pattern[str], texts: dict[str, str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def test_no_file_names_a_package_registry(texts: dict[str, str]) -> None:
    assert lines_with(REGISTRY, texts) == []


def test_no_file_names_a_folder_of_the_machine_it_was_written_on(texts: dict[str, str]) -> None:
    assert lines_with(MACHINE, texts) == []


def test_nothing_is_left_to_be_done_in_the_code(texts: dict[str, str]) -> None:
    code = {
        name: text
        for name, text in texts.items()
        if name.startswith(("app/", "core/")) and not name.startswith(OF_OTHERS)
    }

    assert lines_with(OPEN_END, code) == []


def test_every_module_of_the_service_says_what_it_is_for(texts: dict[str, str]) -> None:
    silent = [
        name
        for name, text in texts.items()
        if name.startswith(("app/", "core/src/"))
        and name.endswith(".py")
        and not name.endswith("__init__.py")
        and not ast.get_docstring(ast.parse(text))
    ]

    assert silent == []


def test_every_link_between_pages_leads_somewhere(texts: dict[str, str]) -> None:
    broken = []
    for name, text in texts.items():
        if name.endswith(".md"):
            for target, anchor in LINK.findall(FENCE.sub("", text)):
                page = (ROOT / name).parent / target if target else ROOT / name
                if not page.exists() or (anchor and anchor not in _anchors(page)):
                    broken.append(f"{name}: {target}#{anchor}")

    assert broken == []


def _anchors(page: Path) -> set[str]:
    """The names under which a page's headings are linked to."""
    headings = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_requirement_is_pinned_by_its_hashes(texts: dict[str, str]) -> None:
    files = {
        name: text
        for name, text in texts.items()
        if name.startswith("requirements/") and name.endswith(".txt")
    }

    assert len(files) >= 2
    for name, text in files.items():
        joined = re.sub(r" *\\\n +", " ", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE))
        for line in joined.splitlines():
            assert PINNED.fullmatch(line.strip()), f"{name}: {line}"


def test_no_requirement_comes_from_an_address(texts: dict[str, str]) -> None:
    files = {name: text for name, text in texts.items() if name.startswith("requirements/")}

    assert lines_with(re.compile(r"://|^ *-(?!r |-hash=)|@ "), files) == []
