"""Which layer each file of a folder is for, by its name, as Spring names files. Pure.

`orders-production.yml` is for the environment `production` of the service `orders`, if the folder
has a file of `orders`, or if `production` is known as an environment.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from pilothouse_core.names import is_name

# The lowest first: of files for one layer, Spring lets the later ones win.
FORMATS = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".properties": "properties"}
_DOTENV = ".env"
ENDINGS = (*FORMATS, _DOTENV)
SHARED_STEM = "application"
_SHARED = "_shared"
_NO_PROFILE = "default"  # Spring's name for: no profile is active


@dataclass(frozen=True)
class Placement:
    """A file's layer; `environment` is None for the layer that all inherit from.

    `note` says what was guessed.
    """

    name: str
    service: str
    environment: str | None
    form: str
    note: str = ""


@dataclass(frozen=True)
class PlacedFiles:
    """The files of a folder in the order in which they are sent, and why others are not."""

    files: Sequence[Placement]
    left_out: Sequence[tuple[str, str]]


def place_files(
    names: Iterable[str], *, environments: Collection[str] = (), services: Collection[str] = ()
) -> PlacedFiles:
    """Place the files of these names; `environments` and `services` are those that are known."""
    left_out: list[tuple[str, str]] = []
    known: list[tuple[str, str, str]] = []
    for name in sorted(names):
        stem, form = _split_ending(name)
        if form is None:
            left_out.append((name, f"its extension is not one of {', '.join(ENDINGS)}"))
        else:
            known.append((name, stem, form))
    bases = _service_stems({stem for _, stem, _ in known}, services)
    named = (_environment_part(stem, bases) for name, stem, _ in known if not _is_dotenv(name))
    environments = {*environments, *filter(None, named)}
    files = []
    for name, stem, form in known:
        placement = _placement(name, stem, form, bases, environments)
        if placement.note and stem in services:
            placement = Placement(name, stem, None, form)
        if placement.environment == _NO_PROFILE:
            reason = "it is for programs without any profile, and an environment is a profile"
            left_out.append((name, reason))
        elif _is_dotenv(name) and placement.environment is None:
            left_out.append((name, "what follows `.env.` is not a known environment"))
        else:
            files.append(placement)
    return PlacedFiles(sorted(files, key=_sort_key), left_out)


def _sort_key(file: Placement) -> tuple[str, str, int, str]:
    endings = [number for number, end in enumerate(FORMATS) if file.name.lower().endswith(end)]
    return file.service, file.environment or "", endings[0] if endings else len(FORMATS), file.name


def _is_dotenv(name: str) -> bool:
    return name.lower().startswith(f"{_DOTENV}.")


def format_of(name: str) -> str | None:
    """Return the format of a file by its ending, in small or capital letters; None for others."""
    return _split_ending(name)[1]


def _split_ending(name: str) -> tuple[str, str | None]:
    lower = name.lower()
    if lower == _DOTENV:
        return SHARED_STEM, "dotenv"
    if lower.startswith(f"{_DOTENV}."):
        return f"{SHARED_STEM}-{name[len(_DOTENV) + 1 :]}", "dotenv"
    for ending, form in {**FORMATS, _DOTENV: "dotenv"}.items():
        if lower.endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)], form
    return name, None


def _service_stems(stems: Collection[str], services: Collection[str]) -> set[str]:
    """Return the stems that name services: known ones, and those that no other one begins."""
    bases = {SHARED_STEM, *services}
    for stem in sorted(stems, key=len):
        if _longest_base(stem, bases) is None:
            bases.add(stem)
    return bases


def _longest_base(stem: str, bases: Collection[str]) -> str | None:
    """Return the longest stem that begins another one."""
    begun = [base for base in bases if stem.startswith(f"{base}-")]
    return max((base for base in begun if is_name(stem[len(base) + 1 :])), key=len, default=None)


def _environment_part(stem: str, bases: Collection[str]) -> str:
    base = None if stem in bases else _longest_base(stem, bases)
    return "" if base is None else stem[len(base) + 1 :]


def _placement(
    name: str, stem: str, form: str, bases: Collection[str], environments: Collection[str]
) -> Placement:
    if stem not in bases and (base := _longest_base(stem, bases)):
        rest = stem[len(base) + 1 :]
        if _is_dotenv(name) and rest not in environments:
            return Placement(name, _SHARED, None, form)
        note = f"the environment {rest} of {base}, whose own file or layer there is"
        return Placement(name, _service_of(base), rest, form, "" if base == SHARED_STEM else note)
    ends = [each for each in environments if stem.endswith(f"-{each}")]
    environment = max(ends, key=len, default="")
    service = stem[: -len(environment) - 1]
    if environment and is_name(service):
        note = f"the known environment {environment} of {service}"
        return Placement(name, _service_of(service), environment, form, note)
    note = ""
    if "-" in stem:
        note = f"the service {stem}: there is no file of what it begins with, and no environment"
    return Placement(name, _service_of(stem), None, form, note)


def _service_of(stem: str) -> str:
    return _SHARED if stem == SHARED_STEM else stem
