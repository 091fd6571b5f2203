"""What is wrong with a schema, and what cannot be judged."""

from app.errors import Invalid


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
