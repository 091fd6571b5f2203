"""The problem codes of operations on promotions."""

from app.web.problem_codes import CodeRules

_READ = (
    "bad_environment bad_name change_log_unavailable config_store_unavailable "
    "definitions_unavailable document_lost document_malformed flags_unavailable same_environment "
    "too_many_rows"
)
_WRITE = (
    "bad_flag bad_key bad_member bad_rows comparison_moved credential_in_plain_value "
    "document_too_large flag_in_use flag_set_contended flag_set_moved key_conflict key_twice "
    "list_item nothing_masked proposal_needed related_write_open rule_undecided rules_unavailable "
    "schema_too_costly schema_violated secret_in_plain stale_version too_many_affected "
    "too_many_keys write_conflict write_outcome_unknown"
)
PROBLEM_CODES: CodeRules = (
    (r"\w+ /api/v1/promotions.*", "promotions_unavailable"),
    (r"POST /api/v1/promotions(/compare)?", _READ),
    (r"POST /api/v1/promotions", _WRITE),
    (r"(POST|DELETE) /api/v1/promotions/pins", "bad_name bad_pin bad_environment"),
    (r"DELETE /api/v1/promotions/pins", "pin_not_found"),
    (r"GET /api/v1/promotions/pins", "bad_cursor"),
)
