"""What is wrong with a schema or a rule, and what cannot be judged."""

from app.errors import Conflict, Invalid, Unavailable


class SchemaInvalid(Invalid):
    """The schema cannot be used; the flaw has the place in it."""

    code = "bad_schema"

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(f"the schema cannot be used: {reason}")
        self.pointer, self.reason = pointer, reason
        self.flaws = ({"pointer": pointer, "detail": reason, "code": self.code},)


class SchemaTooCostly(Invalid):
    """The configuration is too deep or too large for a schema with so many branches."""

    code = "schema_too_costly"

    def __init__(self) -> None:
        super().__init__("the schema would be applied too often to a configuration of this size")


class RuleInvalid(Invalid):
    """A rule cannot be used; `column` counts characters from 1, 0 if none is known."""

    code = "bad_rule"

    def __init__(self, pointer: str, reason: str, column: int = 0) -> None:
        super().__init__(f"the rule cannot be used: {reason}", column=column)
        self.pointer, self.reason, self.column = pointer, reason, column
        self.flaws = ({"pointer": pointer, "detail": reason, "code": self.code},)


class RulesUnavailable(Unavailable):
    """The process that evaluates rules does not answer."""

    code = "rules_unavailable"


class DefinitionsUnavailable(Unavailable):
    """The store of schemas and templates does not answer."""

    code = "definitions_unavailable"


class DefinitionMoved(Conflict):
    """A schema or template has another version than the one that a change follows."""

    code = "definition_moved"

    def __init__(self, kind: str, name: str, version: int) -> None:
        super().__init__(f"the {kind} {name!r} is at version {version}", version=version)
        self.kind, self.name, self.version = kind, name, version
