"""The configurations in files, with the line and the column of each value."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pilothouse.cli.files import ConfigFile
from pilothouse_core import config_files, strict_yaml
from pilothouse_core.config_files import Section
from pilothouse_core.config_files.errors import BadFile, FileTooComplex
from pilothouse_core.json_positions import json_positions
from pilothouse_core.keys import names_of
from pilothouse_core.schema_index import join_pointer
from pilothouse_core.trees import BadKey, DuplicateKey, Tree, merge_into, nested_tree

Position = tuple[int, int]  # line and column, from 1


@dataclass(frozen=True)
class JudgedConfig:
    """What a file holds for one environment; None: for all that it names no section for.

    `positions` are by JSON pointers, and empty for properties and dotenv.
    """

    file: ConfigFile
    environment: str | None
    tree: Tree = field(repr=False)
    positions: Mapping[str, Position] = field(default_factory=dict, repr=False)

    def position_of(self, pointer: str) -> Position | None:
        """Return the position of a place, or else of the nearest one around it."""
        while pointer:
            if pointer in self.positions:
                return self.positions[pointer]
            pointer = pointer.rpartition("/")[0]
        return (1, 1) if self.positions else None


def read_configs(
    file: ConfigFile, environment: str | None, *, types: bool = False
) -> list[JudgedConfig]:
    """Return what a file holds for an environment, else for each that it has sections for.

    It is read as imports of the service read it. Raises BadFile.
    """
    sections, positions = _read_sections(file, types=types)
    environments: list[str | None] = [environment]
    if environment is None:
        environments += dict.fromkeys(name for each in sections for name in each.profiles)
    return [_config(file, name, sections, positions) for name in environments]


def read_layers(file: ConfigFile, environment: str, *, types: bool = False) -> dict[str, Tree]:
    """Return what an import would set in each environment. Raises BadFile."""
    sections, _ = _read_sections(file, types=types)
    layers: dict[str, Tree] = {}
    for section in sections:
        if not section.left_out or section.profiles:
            for name in section.profiles or (environment,):
                merge_into(layers.setdefault(name, {}), _tree(section), keep_both=True)
    return layers


def _read_sections(
    file: ConfigFile, *, types: bool
) -> tuple[list[Section], list[Mapping[str, Position]]]:
    try:
        text = file.content().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(f"not UTF-8 at byte {error.start}") from None
    try:
        sections = config_files.parse(text, file.form, types=types)  # type: ignore[arg-type]
    except FileTooComplex as error:
        raise BadFile(str(error)) from None
    positions: list[Mapping[str, Position]] = []
    if file.form == "json":
        positions = [_by_pointer(json_positions(text))]
    elif file.form == "yaml":
        positions = [_by_pointer(each) for each in strict_yaml.document_positions(text) if each]
    # A document that is empty has no section.
    return sections, positions if len(positions) == len(sections) else [{} for _ in sections]


def _config(
    file: ConfigFile,
    environment: str | None,
    sections: Sequence[Section],
    positions: Sequence[Mapping[str, Position]],
) -> JudgedConfig:
    tree: Tree = {}
    all_positions: dict[str, Position] = {}
    for section, places in zip(sections, positions, strict=True):
        is_plain = not section.profiles and not section.left_out
        if is_plain or environment in section.profiles:
            merge_into(tree, _tree(section), keep_both=True)
            all_positions |= places
    return JudgedConfig(file, environment, tree, all_positions)


def _tree(section: Section) -> Tree:
    try:
        return nested_tree(section.data, keep_both=True)
    except (BadKey, DuplicateKey) as error:
        raise BadFile(str(error)) from None


def _by_pointer(
    positions: Mapping[tuple[str | int, ...], Position],
) -> dict[str, Position]:
    return {join_pointer("", *_names(path)): position for path, position in positions.items()}


def _names(path: Sequence[str | int]) -> Iterator[str | int]:
    """Yield the names of a path as the tree has them: dotted ones lead to several members."""
    in_list = False
    for step in path:
        in_list = in_list or isinstance(step, int)
        if in_list or not isinstance(step, str):
            yield step
        else:
            yield from names_of(step)
