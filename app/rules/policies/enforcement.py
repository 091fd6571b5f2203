"""Asks the policies before a change is made directly, that is, without a proposal."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from app.rules.definitions.model import Scope
from app.rules.errors import ProposalNeeded
from app.rules.policies.model import (
    NO_AUTHORITY,
    Authority,
    Policy,
    Requirements,
    authority_facts,
    requirements_of_scopes,
)
from app.telemetry import POLICY_BYPASSES

NO_FACTS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Policies:
    """The current policies; `current` raises DefinitionsUnavailable if they were never read.

    `revision`: of the newest definition that this replica has read; `refresh` reads the newer ones.
    """

    current: Callable[[], Sequence[Policy]]
    revision: Callable[[], int]
    refresh: Callable[[], Awaitable[None]]

    def requirements(self, kind: str, environment: str, service: str) -> Requirements | None:
        """Return what a change there needs, None if no policy asks; patterns may be names."""
        return self.requirements_of_scopes(kind, [Scope((environment,), (service,))])

    def requirements_of_scopes(self, kind: str, scopes: Sequence[Scope]) -> Requirements | None:
        """Return what a change of something that applies in several scopes needs."""
        return requirements_of_scopes(self.current(), kind, scopes)

    def refuse_direct(
        self,
        kind: str,
        environment: str,
        service: str,
        authority: Authority,
        *,
        is_rollback: bool = False,
        is_kill: bool = False,
    ) -> Mapping[str, str]:
        """Raise ProposalNeeded if a policy asks for one and the authority is no answer to it.

        Returns what the audit has to say of the authority. `is_kill`: the change does nothing but
        turn a flag off, which no policy holds up.
        """
        if is_kill:
            return NO_FACTS
        scopes = [Scope((environment,), (service,))]
        return self.refuse_direct_in(kind, scopes, authority, is_rollback=is_rollback)

    def refuse_direct_in(
        self,
        kind: str,
        scopes: Sequence[Scope],
        authority: Authority,
        *,
        is_rollback: bool = False,
    ) -> Mapping[str, str]:
        """Raise ProposalNeeded likewise, for a change of something that applies in these scopes."""
        if authority.is_own:
            return NO_FACTS
        requirements = self.requirements_of_scopes(kind, scopes)
        if requirements is None or (is_rollback and requirements.rollback == "free"):
            return NO_FACTS
        if authority.bypass_reason is None and authority.proposal is None:
            raise ProposalNeeded(requirements.policies[0])
        return authority_facts(authority, requirements)

    async def check_direct(
        self,
        kind: str,
        scopes: Sequence[Scope],
        authority: Authority,
        *,
        is_rollback: bool = False,
    ) -> Mapping[str, str]:
        """Do the same, but refuse nothing for a policy that this replica has not seen deleted."""
        try:
            return self.refuse_direct_in(kind, scopes, authority, is_rollback=is_rollback)
        except ProposalNeeded:
            await self.refresh()
        return self.refuse_direct_in(kind, scopes, authority, is_rollback=is_rollback)

    async def asking_policy(
        self, kind: str, scopes: Sequence[Scope], *, is_rollback: bool = False
    ) -> str | None:
        """Return the policy by which a change would be refused, None if it may be made directly."""
        try:
            await self.check_direct(kind, scopes, NO_AUTHORITY, is_rollback=is_rollback)
        except ProposalNeeded as error:
            return error.policy
        return None


def count_bypass(facts: Mapping[str, str | None] | None) -> None:
    """Count a change that was made, by what its row in the audit says, if it bypassed a policy."""
    if facts is not None and "bypass_reason" in facts:
        POLICY_BYPASSES.inc()
