"""The problem codes of operations of the registry."""

from app.web.problem_codes import CodeRules

_WRITE = (
    "bad_idempotency_key bad_instance instance_not_found instance_superseded old_epoch "
    "registry_nodes_unavailable too_many_instances"
)
PROBLEM_CODES: CodeRules = (
    (r"\w+ /api/v1/registry/.*", "bad_service_name registry_store_unavailable"),
    (r"(POST|PUT) /api/v1/registry/.*", _WRITE),
    (r"GET /api/v1/registry/services$", "bad_cursor"),
    (r"GET /api/v1/registry/services/.*/url", "key_missing no_instance"),
    (r"GET /api/v1/registry/(discover|services)/.*", "bad_instance_environment"),
    (r"GET /api/v1/registry/prometheus", "registry_in_doubt"),
)
