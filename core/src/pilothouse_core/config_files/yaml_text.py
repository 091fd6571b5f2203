"""YAML as configuration files use it, with the errors of imports."""

from pilothouse_core import strict_yaml
from pilothouse_core.config_files.errors import BadFile, FileTooComplex


def read(text: str) -> list[dict[str, object]]:
    """The mappings of all documents that are not empty; raises BadFile and FileTooComplex."""
    try:
        documents = strict_yaml.load_documents(text, exact=True)
    except strict_yaml.YamlTooLarge as error:
        raise FileTooComplex(str(error)) from None
    except strict_yaml.BadYaml as error:
        raise BadFile(error.reason, error.line, error.column) from None
    for document in documents:
        if not isinstance(document.value, dict | None):
            reason = "a document that is not a mapping"
            raise BadFile(reason, document.line, document.column)
    return [document.value for document in documents if document.value is not None]
