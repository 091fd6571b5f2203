"""The problem codes of operations on webhooks."""

from app.web.problem_codes import CodeRules

_SECRETS = "config_store_unavailable secret_unreadable"
PROBLEM_CODES: CodeRules = (
    (r"\w+ /api/v1/webhooks.*", "definitions_unavailable"),
    (r"\w+ /api/v1/webhooks/\{name\}.*", "webhook_not_found"),
    (r"GET /api/v1/webhooks", f"bad_cursor {_SECRETS}"),
    (r"GET /api/v1/webhooks/\{name\}", f"deliveries_unavailable {_SECRETS}"),
    (
        r"PUT /api/v1/webhooks/\{name\}",
        f"bad_webhook bad_webhook_name deliveries_unavailable too_many_webhooks {_SECRETS}",
    ),
    (
        r"(PUT|DELETE) /api/v1/webhooks/\{name\}",
        "bad_if_match definition_moved proposal_needed stale_webhook",
    ),
    (
        r"\w+ /api/v1/webhooks/\{name\}/(deliveries|dead-letters|test).*",
        "deliveries_unavailable",
    ),
    (r"GET /api/v1/webhooks/\{name\}/(deliveries|dead-letters)", "bad_cursor"),
    (r"POST /api/v1/webhooks/\{name\}/dead-letters/.*", "dead_letter_not_found"),
    (r"POST /api/v1/webhooks/\{name\}/test", _SECRETS),
)
