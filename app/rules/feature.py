"""Builds schemas and templates: the catalog of them, and what is above the configurations."""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from app.feature import Feature, Routes, Task
from app.foundation import Foundation
from app.production_checks import StartRefused
from app.rules.api.problem_codes import PROBLEM_CODES
from app.rules.api.router_policies import router as policies_router
from app.rules.api.router_schemas import router as schemas_router
from app.rules.api.router_templates import router as templates_router
from app.rules.api.router_transfer import router as transfer_router
from app.rules.api.router_violations import router as violations_router
from app.rules.catalog import DefinitionCatalog
from app.rules.cel.process import RuleProcess
from app.rules.definitions.port import DefinitionStore
from app.rules.errors import DefinitionsUnavailable
from app.rules.judging.configurations import Configurations
from app.rules.judging.judge import Judge
from app.rules.policies.enforcement import Policies
from app.rules.services.policies import AccessFacts, PolicyService
from app.rules.services.schemas import SchemaService
from app.rules.services.templates import TemplateService
from app.rules.verifier import Verifier
from app.web.path_rules import PathRules

RULE_ROUTES = Routes(
    routers=(
        transfer_router,
        schemas_router,
        templates_router,
        policies_router,
        violations_router,
    ),
    path_rules=PathRules(
        foreign_segments={
            **dict.fromkeys(("rules", "subjects", "validators"), "schemas"),
            **dict.fromkeys(("check", "judge", "lint", "validation"), "validate"),
        }
    ),
    problem_codes=PROBLEM_CODES,
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What judges configurations; `close` ends the process that evaluates rules."""

    store: DefinitionStore
    catalog: DefinitionCatalog
    judge: Judge
    templates: TemplateService
    policies: Policies
    close: Task


def build_rules(base: Foundation, store: DefinitionStore) -> Rules:
    catalog = DefinitionCatalog(store)
    base.changes.follower.listeners.before_apply(catalog.prepare)
    process = RuleProcess(write_seconds=base.settings.write_seconds)
    policies = Policies(lambda: catalog.policies, lambda: catalog.revision, catalog.refresh)
    templates = TemplateService(store, catalog, policies, base.audit.fingerprints)
    return Rules(store, catalog, Judge(catalog, process), templates, policies, process.close)


@dataclass(frozen=True, slots=True)
class Schemas:
    """What is built on the configurations: the use cases of schemas, and the verification."""

    verifier: Verifier
    schemas: SchemaService
    policies: PolicyService
    feature: Feature


def build_schemas(base: Foundation, rules: Rules, configurations: Configurations) -> Schemas:
    verifier = Verifier(rules.catalog, rules.judge, configurations, base.changes.follower)
    service = SchemaService(
        rules.store,
        rules.catalog,
        rules.judge,
        configurations,
        rules.policies,
        base.audit.fingerprints,
    )
    policies = _build_policy_service(base, rules)
    feature = Feature(
        state={
            "schemas": service,
            "templates": rules.templates,
            "policies": policies,
            "verifier": verifier,
        },
        start=partial(_refuse_policies_without_access, base, rules),
        tasks={"verify": verifier.run},
        facts=lambda: {
            "policies": len(rules.catalog.policies) if rules.catalog.is_read else 0,
            "schemas": len(rules.catalog.schemas) if rules.catalog.is_read else 0,
            "violating_configurations": len(verifier.violations),
        },
        close=rules.close,
    )
    return Schemas(verifier, service, policies, feature)


async def _refuse_policies_without_access(base: Foundation, rules: Rules) -> None:
    """Raise StartRefused where policies exist, and no caller is known who could keep to them.

    If the store is unavailable, nothing is known of policies yet: they apply once they are.
    """
    if base.settings.pilothouse_access == "required":
        return
    with suppress(DefinitionsUnavailable):
        await rules.catalog.refresh()
        if policies := rules.catalog.live("policy"):
            names = ", ".join(repr(each.name) for each in policies)
            raise StartRefused(
                [f"PILOTHOUSE_ACCESS: it is open, and policies need known callers: {names}"]
            )


def _build_policy_service(base: Foundation, rules: Rules) -> PolicyService:
    settings = base.settings
    access = AccessFacts(
        is_required=settings.pilothouse_access == "required",
        has_issuer=settings.oidc_issuer is not None,
    )
    return PolicyService(
        rules.store, rules.catalog, rules.policies, base.audit.fingerprints, access
    )
