"""Errors of YAML that is refused."""


class BadYaml(ValueError):
    """The text is not YAML, or is YAML that two parsers read differently.

    `reason` may name keys, never a value: it may be a password. `line` and `column` count from 1.
    """

    def __init__(self, reason: str, line: int | None = None, column: int | None = None) -> None:
        place = "" if line is None else f"line {line}, column {column}: "
        super().__init__(f"{place}{reason}")
        self.reason, self.line, self.column = reason, line, column


class YamlTooLarge(BadYaml):
    """More than the limits allow, with every alias expanded."""
