"""YAML as configuration files use it: JSON-like values, aliases, merge keys, nothing to execute."""

import re
from collections.abc import Mapping
from typing import Final

import yaml

from app.configs.formats.errors import BadFile
from app.configs.formats.yaml_composer import Composer

# libyaml compares every such directive with every other and writes every tag out in full: 1 MiB
# of them takes it seconds. No configuration file needs one.
_TAG_DIRECTIVE: Final = re.compile(r"(?:\A|[\n\r\x85\u2028\u2029])%TAG\b")
# Plain text that is text to this service and something else to another reader of YAML: y and n to
# YAML 1.1 in full, 1e3, 0o17 and 09 to YAML 1.2, short dates to some.
_AMBIGUOUS: Final = re.compile(
    r"[yYnN]|[-+]?(?:\.?[0-9][0-9_]*|[0-9][0-9_]*\.[0-9_]*)(?:[eE][-+]?[0-9_]+)?"
    r"|[-+]?0[obx][0-9a-fA-F_]*|[-+]?[0-9][0-9_]*(?::[0-9]+)+(?:\.[0-9_]*)?|[-+]\.[a-zA-Z]{3}"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*"
)

_BREAKS_OF_OLD: Final = re.compile("[\x85\u2028\u2029]")


def read(text: str) -> list[dict[str, object]]:
    """The mappings of all documents that are not empty."""
    if directive := _TAG_DIRECTIVE.search(text):
        raise BadFile("a %TAG directive", text.count("\n", 0, directive.end()) + 1)
    composer = Composer()
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            composer.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise BadFile(f"not YAML: {error.problem}", mark.line + 1 if mark else None) from error
    except yaml.reader.ReaderError as error:
        line = text.encode().count(b"\n", 0, error.position) + 1
        raise BadFile(f"not YAML: {error.reason}", line) from error
    return composer.documents


class _Dumper(yaml.CSafeDumper):
    """Inherits because PyYAML is adjusted in no other way."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # Certificates and scripts stay readable; the emitter quotes what a block cannot hold.
    is_block = "\n" in text and not text[0].isspace()
    style = "|" if is_block else None
    if _BREAKS_OF_OLD.search(text):
        style = '"'  # escaped: they end a line in YAML 1.1, and are characters as others in 1.2
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
_Dumper.add_implicit_resolver("!ambiguous", re.compile(f"^(?:{_AMBIGUOUS.pattern})$"), None)


def write(data: Mapping[str, object]) -> str:
    return yaml.dump(
        dict(data),
        Dumper=_Dumper,
        allow_unicode=True,
        default_flow_style=False,
        sort_keys=False,
        width=2**31 - 1,  # folded lines would depend on how a reader joins them
    )
