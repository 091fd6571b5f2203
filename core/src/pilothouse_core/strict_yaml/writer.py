"""YAML for people, which other readers read alike."""

import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

_DUMPER: Final[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
# Plain text that is text to `loads` and something else to another reader of YAML: y and n to YAML
# 1.1 in full, 0o17 and 09 to YAML 1.2, short dates to some. And 1e3, which PyYAML writes plain.
_AMBIGUOUS: Final = re.compile(
    r"[yYnN]|[-+]?(?:\.?[0-9][0-9_]*|[0-9][0-9_]*\.[0-9_]*)(?:[eE][-+]?[0-9_]+)?"
    r"|[-+]?0[obx][0-9a-fA-F_]*|[-+]?[0-9][0-9_]*(?::[0-9]+)+(?:\.[0-9_]*)?|[-+]\.[a-zA-Z]{3}"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*"
)
_BREAKS_OF_OLD: Final = re.compile("[\x85\u2028\u2029]")


def dumps(value: Mapping[str, object]) -> str:
    """The text of a YAML file that `loads` reads as `value`, which JSON can hold."""
    text: str = yaml.dump(
        dict(value),
        Dumper=_Dumper,
        allow_unicode=True,
        default_flow_style=False,
        sort_keys=False,
        width=2**31 - 1,  # folded lines would depend on how a reader joins them
    )
    return text


class _Dumper(_DUMPER):  # type: ignore[misc]  # PyYAML is adjusted in no other way
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _text_node(dumper: Any, text: str) -> Any:
    # Certificates and scripts stay readable; the emitter quotes what a block cannot hold.
    is_block = "\n" in text and not text[0].isspace()
    style = "|" if is_block else None
    if _BREAKS_OF_OLD.search(text):
        style = '"'  # escaped: they end a line in YAML 1.1, and are characters as others in 1.2
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text_node)
_Dumper.add_implicit_resolver("!ambiguous", re.compile(f"^(?:{_AMBIGUOUS.pattern})$"), None)
