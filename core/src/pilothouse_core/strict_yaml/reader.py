"""From the text of a YAML file to the values of its documents."""

import re
from typing import Any, Final

import yaml

from pilothouse_core.strict_yaml.composer import Composer, Document, Limits
from pilothouse_core.strict_yaml.errors import BadYaml

# PyYAML can be built without libyaml. Both parsers accept the same, and this one is slower.
LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEFAULT_LIMITS: Final = Limits()
_ONE_DOCUMENT: Final = "more than one document"
# libyaml compares every such directive with every other and writes every tag out in full: 1 MiB
# of them takes it seconds. No configuration file needs one.
_TAG_DIRECTIVE: Final = re.compile(r"(?:\A|[\n\r\x85\u2028\u2029])%TAG\b")


def loads(text: str, *, exact: bool = False, limits: Limits = _DEFAULT_LIMITS) -> Any:
    """The value of one YAML document; None if the text has none.

    Values are those of JSON. Scalars have the types of YAML 1.1 as Spring reads them; dates and
    12:30 stay text. Keys are their source text. No two aliases share a value.

    Raises BadYaml for what is not YAML, more than one document, a key that occurs twice in one
    mapping, keys that are not scalars, tags of types that JSON lacks, %TAG, NUL, infinity, NaN,
    integers of more than 4,300 digits and more than 64 levels of nesting, and YamlTooLarge beyond
    `limits`. With `exact`, a decimal that a double does not hold unchanged is refused as well.
    """
    documents = load_documents(text, exact=exact, limits=limits)
    if len(documents) > 1:
        raise BadYaml(_ONE_DOCUMENT, documents[1].line, documents[1].column)
    return documents[0].value if documents else None


def load_documents(
    text: str, *, exact: bool = False, limits: Limits = _DEFAULT_LIMITS
) -> list[Document]:
    """All documents of a YAML text, also empty ones, which are None; raises as `loads` does."""
    if directive := _TAG_DIRECTIVE.search(text):
        raise _bad_at(text[: directive.end() - len("%TAG")], "a %TAG directive")
    composer = Composer(limits, exact=exact)
    parser: Any = None
    try:
        parser = LOADER(text)  # which reads already, without libyaml
        composer.compose(parser.get_event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = () if mark is None else (mark.line + 1, mark.column + 1)
        raise BadYaml(f"not YAML: {error.problem}", *place) from None
    except yaml.reader.ReaderError as error:
        raise _bad_at(_text_before(text, error.position), f"not YAML: {error.reason}") from None
    finally:
        if parser is not None:
            parser.dispose()
    return composer.documents


def _text_before(text: str, position: int) -> str:
    """`position` counts bytes in libyaml, and characters without it."""
    if LOADER is yaml.SafeLoader:
        return text[:position]
    return text.encode(errors="surrogatepass")[:position].decode(errors="ignore")


def _bad_at(before: str, reason: str) -> BadYaml:
    line = before.count("\n") + 1
    return BadYaml(reason, line, len(before) - before.rfind("\n"))
