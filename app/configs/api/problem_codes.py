"""The problem codes of operations on configurations."""

from app.web.problem_codes import CodeRules

_READ = "bad_name change_log_unavailable config_store_unavailable document_malformed"
_WRITE = (
    "bad_idempotency_key bad_if_match bad_key bad_member credential_in_plain_value "
    "document_lost document_too_large idempotency_key_reused key_conflict key_twice list_item "
    "nothing_masked stale_version too_many_keys write_conflict write_outcome_unknown"
)
_JUDGED = (
    "definitions_unavailable proposal_needed related_write_open release_running rule_undecided "
    "rules_unavailable schema_too_costly schema_violated secret_in_plain too_many_affected"
)
_READ_OPTIONS = "contradictory_options placeholder_cycle placeholder_limit releases_unavailable"
_TEMPLATE = "bad_parameters bad_template secret_in_template template_not_applicable"
PROBLEM_CODES: CodeRules = (
    (r"\w+ /api/(v1/config|v1/effective|configs|v1/import|v1/export).*", _READ),
    (r"GET /api/(v1/config|v1/effective|configs).*", "bad_key bad_cursor document_lost"),
    (r"(POST|PUT|PATCH|DELETE) /api/(v1/config|configs|v1/import).*", _WRITE),
    (r"(POST|PUT|PATCH|DELETE) /api/(v1/config|configs|v1/import|v1/copy).*", _JUDGED),
    (r"POST /api/v1/validate", f"{_READ} {_WRITE} {_JUDGED} document_twice key_not_found"),
    (r"POST /api/v1/config$", "key_exists"),
    (r"PUT /api/v1/config/.*", "address_contradicts"),
    (r"\w+ /api/v1/config.*", "key_not_found secret_unreadable version_gone version_not_found"),
    (r"GET /api/v1/(config/\{key\}|effective)$", _READ_OPTIONS),
    (r"GET /api/v1/effective", "name_clash not_expressible secret_unreadable"),
    (r"\w+ /api/configs/.*", "document_not_found version_gone version_not_found"),
    (r"POST /api/(v1/config/.*|configs/.*)/rollback", "version_is_deletion"),
    (r"POST /api/configs/\{service\}", "document_exists"),
    (r"POST /api/v1/import", "bad_file file_too_complex"),
    (r"POST /api/v1/copy", f"{_READ} {_WRITE} copy_onto_itself document_not_found"),
    (r"POST /api/v1/copy", "key_not_found secret_unreadable"),
    (r"GET /api/v1/export", "document_not_found name_clash not_expressible secret_unreadable"),
    (r"POST /api/v1/templates/\{name\}/use", f"{_READ} {_WRITE} {_TEMPLATE}"),
    (r"GET /api/v1/templates/\{name\}/uses", f"{_READ} bad_template document_lost"),
    (r"POST /api/v1/templates/\{name\}/upgrade", f"{_READ} bad_template"),
)
