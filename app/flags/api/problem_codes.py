"""The problem codes of operations on flags and segments, and of evaluations."""

from app.web.problem_codes import ACCESS_CODES, WITH_BODY, CodeRules

_WRITE = (
    "bad_flag bad_idempotency_key bad_if_match flag_archived flag_exists flag_in_use "
    "flag_set_contended "
    "flag_set_moved flag_type_in_use flag_version_mismatch idempotency_key_reused "
    "idempotency_key_taken definitions_unavailable proposal_needed"
)
PROBLEM_CODES: CodeRules = (
    (r"\w+ /api/v1/(feature-flags|segments|flag-).*", "bad_environment flags_unavailable"),
    (r"GET /api/v1/(feature-flags|segments).*", "bad_cursor"),
    (r"(POST|PUT|PATCH|DELETE) /api/v1/(feature-flags|segments)(?!/evaluate).*", _WRITE),
    (r"DELETE /api/v1/feature-flags/.*/targets", WITH_BODY),
    (r"\w+ /api/v1/feature-flags/.*", "flag_not_found"),
    (r"POST /api/v1/feature-flags/.*/restore", "flag_not_archived"),
    (
        r"POST /api/v1/feature-flags/.*/rollback",
        "flag_version_is_deletion flag_version_not_found",
    ),
    (r"POST /api/v1/feature-flags/.*/copy", "flag_references_missing"),
    (r"\w+ /api/v1/segments/.*", "segment_not_found"),
    (r"POST /api/v1/feature-flags/evaluate.*", "context_too_large evaluation_too_long"),
    (r"POST /api/v1/feature-flags/import", "bad_file bad_text file_too_complex"),
    (r"\w+ /api/v1/feature-flags/(im|ex)port", "bad_file flags_not_expressed file_too_complex"),
    (r"\w+ /ofrep/.*", ACCESS_CODES),
    (r"\w+ /ofrep/.*", "bad_environment flags_unavailable evaluation_too_long"),
    (r"GET /ofrep/v1/stream", "bad_filter bad_kind too_many_streams too_many_streams_of_caller"),
    (r"GET /ofrep/v1/stream", "change_log_unavailable"),
)
