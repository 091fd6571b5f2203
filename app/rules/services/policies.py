"""The use cases of policies."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.audit.fingerprints import Fingerprints
from app.rules.catalog import DefinitionCatalog
from app.rules.definitions.model import Definition, Scope
from app.rules.definitions.port import DefinitionStore
from app.rules.errors import (
    AccessIsOpen,
    BadPolicyName,
    PolicyInvalid,
    PolicyNotFound,
    PolicyVersionNotFound,
    StalePolicy,
)
from app.rules.policies.enforcement import Policies
from app.rules.policies.reading import policy_scope, policy_text, read_policy
from app.rules.services.definitions import (
    RESERVED_NAMES,
    DefinitionErrors,
    DefinitionRequest,
    DefinitionService,
    DefinitionWritten,
)
from pilothouse_core.names import is_name

_RESERVED: Final = RESERVED_NAMES | {"bypasses"}
_ERRORS: Final = DefinitionErrors(BadPolicyName, PolicyNotFound, PolicyVersionNotFound, StalePolicy)


@dataclass(frozen=True, slots=True)
class AccessFacts:
    """Whether callers are known at all, and whether people are, by an issuer."""

    is_required: bool
    has_issuer: bool


class PolicyService(DefinitionService):
    def __init__(
        self,
        store: DefinitionStore,
        catalog: DefinitionCatalog,
        policies: Policies,
        fingerprints: Fingerprints,
        access: AccessFacts,
    ) -> None:
        super().__init__("policy", _ERRORS, store, catalog, policies, fingerprints)
        self._access = access

    def scopes_of(self, text: str) -> Sequence[Scope]:
        return [policy_scope(json.loads(text))] if text else ()

    async def put(
        self,
        name: str,
        body: Mapping[str, Any],
        request: DefinitionRequest,
        *,
        dry_run: bool = False,
    ) -> DefinitionWritten:
        """Create or replace a policy; nothing is written if it says the same already.

        Raises AccessIsOpen, BadPolicyName, PolicyInvalid, StalePolicy, ProposalNeeded where a
        policy guards policies, DefinitionsUnavailable, and what `allow` raises.
        """
        if not is_name(name) or name in _RESERVED:
            raise BadPolicyName(name)
        text = policy_text(body)
        self._check(name, text)
        request.allow(self.scopes_of(text))
        return await self.write(name, text, "updated", request, dry_run=dry_run)

    async def roll_back(
        self, name: str, old: Definition, request: DefinitionRequest
    ) -> DefinitionWritten:
        """Write an earlier version again, after a deletion too; raises as `put`."""
        self._check(name, old.text)
        request.allow(self.scopes_of(old.text))
        return await self.write(name, old.text, "rolled_back", request)

    def _check(self, name: str, text: str) -> None:
        if not self._access.is_required:
            raise AccessIsOpen
        policy = read_policy(name, 0, json.loads(text))
        if policy.people_only and not self._access.has_issuer:
            raise PolicyInvalid("/people_only", "needs an issuer of people's tokens: OIDC_ISSUER")
