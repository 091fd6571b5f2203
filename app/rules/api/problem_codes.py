"""The problem codes of operations on schemas and templates."""

from app.web.problem_codes import CodeRules

_WRITE = "bad_if_match bad_rule bad_schema default_conflict definition_contended rules_unavailable"
PROBLEM_CODES: CodeRules = (
    (r"\w+ /api/v1/schemas.*", "definitions_unavailable"),
    (
        r"(PUT|POST|DELETE) /api/v1/(schemas|templates|policies)/\{name\}(/rollback)?",
        "proposal_needed",
    ),
    (r"\w+ /api/v1/policies.*", "definitions_unavailable"),
    (r"GET /api/v1/policies(/bypasses|/\{name\}/history)?", "bad_cursor"),
    (r"GET /api/v1/policies/bypasses", "audit_unavailable"),
    (r"\w+ /api/v1/policies/\{name\}/.*", "policy_not_found policy_version_not_found"),
    (r"(GET|DELETE) /api/v1/policies/\{name\}", "policy_not_found policy_version_not_found"),
    (r"PUT /api/v1/policies/\{name\}", "access_is_open bad_policy bad_policy_name"),
    (r"(PUT|DELETE) /api/v1/policies/\{name\}", "bad_if_match definition_moved stale_policy"),
    (
        r"POST /api/v1/policies/\{name\}/rollback",
        "access_is_open bad_if_match bad_policy definition_moved stale_policy",
    ),
    (r"GET /api/v1/(schemas|violations).*", "bad_cursor"),
    (r"GET /api/v1/(schemas/for|violations)", "bad_filter"),
    (r"\w+ /api/v1/schemas/\{name\}.*", "schema_not_found"),
    (r"GET /api/v1/schemas/\{name\}(/diff)?", "schema_version_not_found"),
    (r"(PUT|POST) /api/v1/schemas.*", f"{_WRITE} schema_not_met schema_too_costly"),
    (r"(PUT|POST) /api/v1/schemas.*", "bad_schema_name definition_moved stale_schema"),
    (r"DELETE /api/v1/schemas/\{name\}", "bad_if_match definition_moved stale_schema"),
    (r"POST /api/v1/schemas/\{name\}/rollback", "schema_version_not_found"),
    (r"\w+ /api/v1/templates.*", "definitions_unavailable"),
    (r"GET /api/v1/templates(/\{name\}/(history|uses))?", "bad_cursor"),
    (r"\w+ /api/v1/templates/\{name\}/.*", "template_not_found template_version_not_found"),
    (r"(GET|DELETE) /api/v1/templates/\{name\}", "template_not_found template_version_not_found"),
    (r"PUT /api/v1/templates/\{name\}", "bad_template bad_template_name secret_in_template"),
    (r"(PUT|DELETE) /api/v1/templates/\{name\}", "bad_if_match definition_moved stale_template"),
    (
        r"POST /api/v1/templates/\{name\}/rollback",
        "bad_if_match bad_template definition_moved secret_in_template stale_template",
    ),
)
