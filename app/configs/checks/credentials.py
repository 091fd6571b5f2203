"""The credential policy: refuse, warn of or allow credentials in plain values. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.access.model import is_protected
from app.configs.errors import CredentialInPlainValue
from app.configs.model import Body, DocumentId, Draft, Finding
from app.configs.secrets import ToSeal
from pilothouse_core.credentials import find_credential
from pilothouse_core.diff import diff
from pilothouse_core.keys import join_key
from pilothouse_core.name_patterns import matches
from pilothouse_core.trees import is_secret

_LONGEST_NUMBER = 10**20  # CPython refuses to write very long ones as decimals


@dataclass(frozen=True, slots=True)
class Exemption:
    """Patterns of keys whose plain values may be credentials, and the reason."""

    environment: str
    service: str
    key: str
    reason: str

    def covers(self, document: DocumentId, key: str) -> bool:
        return (
            matches(self.environment, document.environment)
            and matches(self.service, document.service)
            and matches(self.key, key)
        )


@dataclass(frozen=True, slots=True)
class CredentialPolicy:
    """Credentials are refused in these environments and only warned of in all others."""

    refused_in: Sequence[str] = ()
    allowances: Sequence[Exemption] = ()

    def check(self, document: DocumentId, base: Body | None, draft: Draft) -> Draft:
        """Return the draft with its findings, or raise CredentialInPlainValue.

        What was plain before and stays as it is does not count. A rollback is never refused: it
        is the way out of an incident, and its content is in the history already.
        """
        if not draft.data:
            return draft
        findings = self.find_credentials(document, base, draft.data)
        unwanted = [
            (str(document), finding.key, finding.rule)
            for finding in findings
            if not finding.allowed
        ]
        if unwanted and draft.action != "rolled_back" and self._is_refused_in(document):
            raise CredentialInPlainValue(unwanted)
        return replace(draft, findings=findings)

    def _is_refused_in(self, document: DocumentId) -> bool:
        return is_protected(self.refused_in, document.environment)

    def find_credentials(
        self, document: DocumentId, base: Body | None, data: dict[str, Any]
    ) -> tuple[Finding, ...]:
        """Return what counts as a credential among the plain values that differ from `base`."""
        changes = diff(base.data if base is not None else {}, data)
        changed = [(key, None, new) for key, new in changes.added.items()]
        changed += [(key, old, new) for key, (old, new) in changes.changed.items()]
        return tuple(
            finding
            for key, old, new in changed
            if (finding := self._credential_in(document, key, old, new)) is not None
        )

    def _credential_in(self, document: DocumentId, key: str, old: Any, new: Any) -> Finding | None:
        known = frozenset(_texts(key, old))  # of a list that was changed, the rest of it
        for name, text in _texts(key, new):
            rule = find_credential(name, text) if (name, text) not in known else None
            if rule is not None:
                return Finding(key, rule, self._reason_of_exemption(document, key))
        return None

    def _reason_of_exemption(self, document: DocumentId, key: str) -> str:
        return next((each.reason for each in self.allowances if each.covers(document, key)), "")


def _texts(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield every plain text in a leaf, with the name that it has."""
    if isinstance(value, ToSeal) or is_secret(value):
        return
    match value:
        case str():
            yield key, value
        case bool():
            return
        case int() if abs(value) < _LONGEST_NUMBER:
            yield key, str(value)
        case list():
            for inner in value:
                yield from _texts(key, inner)
        case dict():
            for name, inner in value.items():
                yield from _texts(join_key(key, name), inner)
