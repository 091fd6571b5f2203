"""YAML read strictly: JSON-like values, aliases and merge keys, nothing to execute.

Needs PyYAML, an extra of this package. Its constructor crashes the process on deep nesting,
expands aliases before anything can count them, lets a repeated key win quietly and turns dates into
objects; so only its parser is used.
"""

from pilothouse_core.strict_yaml.composer import Document, Limits
from pilothouse_core.strict_yaml.errors import BadYaml, YamlTooLarge
from pilothouse_core.strict_yaml.positions import document_positions
from pilothouse_core.strict_yaml.reader import load_documents, loads
from pilothouse_core.strict_yaml.writer import dumps

__all__ = [
    "BadYaml",
    "Document",
    "Limits",
    "YamlTooLarge",
    "document_positions",
    "dumps",
    "load_documents",
    "loads",
]
