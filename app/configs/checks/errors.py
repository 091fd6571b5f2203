"""Errors of writes that break a schema."""

from collections.abc import Callable, Sequence
from typing import Self

from app.configs.errors import MOST_FOUND
from app.errors import Invalid, Unavailable
from app.rules.judging.errors import flaw_of
from app.rules.judging.model import Judgement, Pair


class SecretInPlain(Invalid):
    """Each item of `found` is (document, key, schema); see CredentialInPlainValue."""

    code = "secret_in_plain"

    def __init__(
        self,
        secrets: Sequence[tuple[str, str, str]],
        pointer_of: Callable[[str], str] = lambda _: "",
    ) -> None:
        where, key, schema = secrets[0]
        others = f" ({len(secrets)} are found in all)" if len(secrets) > 1 else ""
        super().__init__(
            f"{key!r} of {where} is secret by the schema {schema!r}{others}: send it with "
            "is_encrypted, or as a $secret",
            key=key,
            schema=schema,
        )
        self.found = secrets
        self.flaws = [
            {
                **({"pointer": pointer} if pointer else {}),
                "detail": f"{key!r} of {where} is secret by the schema {schema!r}",
                "code": self.code,
            }
            for where, key, schema in secrets[:MOST_FOUND]
            for pointer in [pointer_of(key)]
        ]


class SchemaViolated(Invalid):
    """Effective configurations would not meet an enforced schema.

    Only problems of pairs that `may_read` allows are shown; the others are counted.
    """

    code = "schema_violated"

    def __init__(
        self,
        judgement: Judgement,
        may_read: Callable[[Pair], bool] = lambda _: False,
        pointer_of: Callable[[str], str] = lambda _: "",
    ) -> None:
        shown = [each for each in judgement.errors if may_read(each.pair)]
        hidden = judgement.violating - len({each.pair for each in shown})
        first = shown[0].text if shown else "a configuration that you may not read"
        super().__init__(
            f"the write would break a schema: {first}",
            affected=judgement.affected,
            violating=judgement.violating,
            **({"hidden": hidden} if hidden else {}),
        )
        self.judgement, self.may_read = judgement, may_read
        self.flaws = [flaw_of(each, self.code, pointer_of(each.key)) for each in shown[:MOST_FOUND]]

    def shown_to(
        self, may_read: Callable[[Pair], bool], pointer_of: Callable[[str], str] = lambda _: ""
    ) -> Self:
        """Return the same error for a caller, with places in the request body."""
        return type(self)(self.judgement, may_read, pointer_of)


class RuleUndecided(SchemaViolated):
    """Rules between fields give no answer: for a missing key, or because they take too long."""

    code = "rule_undecided"


class DocumentTwice(Invalid):
    code = "document_twice"

    def __init__(self, document: str) -> None:
        super().__init__(f"{document} is changed twice: merge the changes into one")


class TooManyAffected(Invalid):
    code = "too_many_affected"

    def __init__(self, pairs: int, most: int) -> None:
        super().__init__(
            f"the write changes {pairs} configurations with a schema, more than the {most} that "
            "are judged at once",
            affected=pairs,
            limit=most,
        )


class RelatedWriteOpen(Unavailable):
    """A write of a related document is under way, or its outcome is not known yet."""

    code = "related_write_open"
    retry_after = 3

    def __init__(self, document: str) -> None:
        super().__init__(
            f"a write that is judged together with {document} has not ended; nothing was written"
        )
