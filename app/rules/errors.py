"""What is wrong with a schema or a rule, and what cannot be judged."""

from collections.abc import Iterable, Sequence

from app.errors import Conflict, Forbidden, Invalid, NotFound, PreconditionFailed, Unavailable
from pilothouse_core.names import NAME_GRAMMAR
from pilothouse_core.suggestions import did_you_mean

_MOST_FLAWS = 50  # that one answer lists


class SchemaInvalid(Invalid):
    """The schema cannot be used; the flaw has the place in it."""

    code = "bad_schema"

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(f"the schema cannot be used: {reason}")
        self.pointer, self.reason = pointer, reason
        self.flaws = ({"pointer": f"#{pointer}", "detail": reason, "code": self.code},)


class SchemaTooCostly(Invalid):
    """The configuration is too deep or too large for a schema with so many branches."""

    code = "schema_too_costly"

    def __init__(self) -> None:
        super().__init__("the schema would be applied too often to a configuration of this size")


class RuleInvalid(Invalid):
    """A rule cannot be used; `column` counts characters from 1, 0 if none is known."""

    code = "bad_rule"

    def __init__(self, pointer: str, reason: str, column: int = 0) -> None:
        super().__init__(
            f"the rule cannot be used: {reason}", **({"column": column} if column else {})
        )
        self.pointer, self.reason, self.column = pointer, reason, column
        self.flaws = ({"pointer": f"#{pointer}", "detail": reason, "code": self.code},)


class TemplateInvalid(Invalid):
    """The template cannot be used; `pointer` is the place in its body."""

    code = "bad_template"

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(f"the template cannot be used: {reason}")
        self.pointer, self.reason = pointer, reason
        self.flaws = ({"pointer": f"#{pointer}", "detail": reason, "code": self.code},)


class ParametersInvalid(Invalid):
    """The values of a template's parameters cannot be used; `found` has (pointer, reason) of each.

    The pointers begin at the parameters.
    """

    code = "bad_parameters"

    def __init__(self, reasons: Sequence[tuple[str, str]]) -> None:
        pointer, reason = reasons[0]
        others = f" ({len(reasons)} flaws are found in all)" if len(reasons) > 1 else ""
        where = f" at {pointer[:80]!r}" if pointer else ""
        super().__init__(f"the parameters{where} cannot be used: {reason}{others}")
        self.found = reasons
        self.flaws = [
            {"pointer": f"#/parameters{pointer}", "detail": reason, "code": self.code}
            for pointer, reason in reasons[:_MOST_FLAWS]
        ]


class SecretInTemplate(Invalid):
    """A template, or the rendering of one, would hold a secret: both are stored plainly."""

    code = "secret_in_template"

    def __init__(self, key: str, pointer: str | None = None) -> None:
        super().__init__(
            f"{key[:80]!r} is or would be a secret, and templates and their parameters are stored "
            "plainly: set it as a key of the document",
            key=key[:80],
        )
        if pointer is not None:
            self.flaws = ({"pointer": f"#{pointer}", "detail": str(self), "code": self.code},)


class BadTemplateName(Invalid):
    code = "bad_template_name"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name[:80]!r} is not a valid name of a template: {NAME_GRAMMAR}; `for`, `export` and "
            "`import` are reserved"
        )


class TemplateNotFound(NotFound):
    code = "template_not_found"

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        """`known`: the names of the existing templates."""
        super().__init__(_missing("template", name, known), name=name[:80])


class TemplateVersionNotFound(NotFound):
    code = "template_version_not_found"

    def __init__(self, name: str, version: int) -> None:
        super().__init__(_no_version("template", name, version), name=name[:80], version=version)


class StaleTemplate(PreconditionFailed):
    code = "stale_template"

    def __init__(self, name: str, version: int) -> None:
        super().__init__(_newer_version("template", name, version), version=version)


class TemplateNotApplicable(Invalid):
    """The template may not be used for a document of this environment and service."""

    code = "template_not_applicable"

    def __init__(self, name: str, where: str) -> None:
        super().__init__(f"the template {name!r} does not apply to {where}; see its `applies_to`")


class PolicyInvalid(Invalid):
    """The policy cannot be used; `pointer` is the place in its body."""

    code = "bad_policy"

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(f"the policy cannot be used: {reason}")
        self.pointer, self.reason = pointer, reason
        self.flaws = ({"pointer": f"#{pointer}", "detail": reason, "code": self.code},)


class AccessIsOpen(Conflict):
    """Policies need known callers."""

    code = "access_is_open"

    def __init__(self) -> None:
        super().__init__(
            "a policy needs callers that are known: with PILOTHOUSE_ACCESS=open no caller is"
        )


class BadPolicyName(Invalid):
    code = "bad_policy_name"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name[:80]!r} is not a valid name of a policy: {NAME_GRAMMAR}; `bypasses`, `for`, "
            "`export` and `import` are reserved"
        )


class PolicyNotFound(NotFound):
    code = "policy_not_found"

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        """`known`: the names of the existing policies."""
        super().__init__(_missing("policy", name, known), name=name[:80])


class PolicyVersionNotFound(NotFound):
    code = "policy_version_not_found"

    def __init__(self, name: str, version: int) -> None:
        super().__init__(_no_version("policy", name, version), name=name[:80], version=version)


class StalePolicy(PreconditionFailed):
    code = "stale_policy"

    def __init__(self, name: str, version: int) -> None:
        super().__init__(_newer_version("policy", name, version), version=version)


def _missing(kind: str, name: str, known: Iterable[str]) -> str:
    return f"there is no {kind} {name[:80]!r}{did_you_mean(name[:80], known)}"


def _no_version(kind: str, name: str, version: int) -> str:
    return f"the {kind} {name[:80]!r} has no version {version} with content"


def _newer_version(kind: str, name: str, version: int) -> str:
    return f"the {kind} {name!r} is at version {version}; read it again"


class ProposalNeeded(Forbidden):
    """A policy asks for a proposal where the change was to be made directly."""

    code = "proposal_needed"

    def __init__(self, policy: str) -> None:
        super().__init__(f"the policy {policy!r} asks for a proposal here", policy=policy)
        self.policy = policy


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


class PoliciesMoved(DefinitionMoved):
    """A policy was changed since the policies were asked."""

    def __init__(self) -> None:
        Conflict.__init__(self, "the policies are being changed; send the request again")


class BadSchemaName(Invalid):
    code = "bad_schema_name"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name[:80]!r} is not a valid name of a schema: {NAME_GRAMMAR}; `for`, `export` and "
            "`import` are reserved"
        )


class SchemaNotFound(NotFound):
    code = "schema_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no schema {name[:80]!r}", name=name[:80])


class SchemaVersionNotFound(NotFound):
    code = "schema_version_not_found"

    def __init__(self, name: str, version: int) -> None:
        super().__init__(_no_version("schema", name, version), name=name[:80], version=version)


class StaleSchema(PreconditionFailed):
    code = "stale_schema"

    def __init__(self, name: str, version: int) -> None:
        super().__init__(_newer_version("schema", name, version), version=version)


class DefaultsContradict(Invalid):
    code = "default_conflict"

    def __init__(self, key: str, other: str, at: str) -> None:
        where = f" mounted at {at!r}" if at else ""
        super().__init__(
            f"the schema{where} has another default for {key!r} than the schema {other!r}",
            key=key,
            other=other,
        )


class DefinitionContended(Unavailable):
    """What a schema judges changes faster than it is judged."""

    code = "definition_contended"
    retry_after = 1

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the configurations that the schema {name!r} judges are being changed; nothing was "
            "written"
        )
