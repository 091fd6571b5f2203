"""The problem codes of each operation, for the OpenAPI document.

A test compares them with the responses to bad requests.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_EVERYWHERE = (
    "bad_content_length bad_host bad_http bad_path bad_query foreign_host foreign_origin "
    "headers_too_large internal_error invalid method_not_allowed refused request_too_slow "
    "too_large trailers_refused workers_busy"
)
_WITH_ACCESS = (
    "credentials_contradict denied issuer_unavailable token_missing token_refused "
    "tokens_unavailable too_many_refusals too_many_requests"
)
_WITH_BODY = "bad_json bad_text unsupported_media_type"
_CONFIG_READ = "bad_name change_log_unavailable config_store_unavailable document_malformed"
_CONFIG_WRITE = (
    "bad_idempotency_key bad_if_match bad_key bad_member credential_in_plain_value "
    "document_lost document_too_large idempotency_key_reused key_conflict key_twice list_item "
    "nothing_masked stale_version too_many_keys write_conflict write_outcome_unknown"
)
_READ_OPTIONS = "contradictory_options placeholder_cycle placeholder_limit"
_FLAG_WRITE = (
    "bad_flag bad_idempotency_key bad_if_match flag_archived flag_exists flag_in_use "
    "flag_set_contended "
    "flag_set_moved flag_type_in_use flag_version_mismatch idempotency_key_reused "
    "idempotency_key_taken"
)
_REGISTRY_WRITE = (
    "bad_idempotency_key bad_instance instance_not_found instance_superseded old_epoch "
    "registry_nodes_unavailable too_many_instances"
)
_STATE = "state_unavailable"
# By a pattern of "METHOD path"; all that match count.
_RULES: tuple[tuple[str, str], ...] = (
    (r".*", _EVERYWHERE),
    (r"\w+ (?!/(live|ready|health|metrics)$).*", _WITH_ACCESS),
    (r"(POST|PUT|PATCH) .*", _WITH_BODY),
    (r"DELETE /api/v1/feature-flags/.*/targets", _WITH_BODY),
    (r"\w+ /(api|ofrep|stats).*", f"revision_not_reached {_STATE}"),
    (r"\w+ /api/(v1/config|v1/effective|configs|v1/import|v1/export).*", _CONFIG_READ),
    (r"GET /api/(v1/config|v1/effective|configs).*", "bad_key bad_cursor document_lost"),
    (r"(POST|PUT|PATCH|DELETE) /api/(v1/config|configs|v1/import).*", _CONFIG_WRITE),
    (r"POST /api/v1/config$", "key_exists"),
    (r"PUT /api/v1/config/.*", "address_contradicts"),
    (r"\w+ /api/v1/config.*", "key_not_found secret_unreadable version_gone version_not_found"),
    (r"GET /api/v1/(config/\{key\}|effective)$", _READ_OPTIONS),
    (r"GET /api/v1/effective", "name_clash not_expressible secret_unreadable"),
    (r"\w+ /api/configs/.*", "document_not_found version_gone version_not_found"),
    (r"POST /api/(v1/config/.*|configs/.*)/rollback", "version_is_deletion"),
    (r"POST /api/configs/\{service\}", "document_exists"),
    (r"POST /api/v1/import", "bad_file file_too_complex"),
    (r"POST /api/v1/feature-flags/import", "bad_file bad_text file_too_complex"),
    (r"POST /api/v1/copy", f"{_CONFIG_READ} {_CONFIG_WRITE} copy_onto_itself document_not_found"),
    (r"POST /api/v1/copy", "key_not_found secret_unreadable"),
    (r"GET /api/v1/export", "document_not_found name_clash not_expressible secret_unreadable"),
    (r"\w+ /api/v1/(feature-flags|segments|flag-).*", "bad_environment flags_unavailable"),
    (r"GET /api/v1/(feature-flags|segments).*", "bad_cursor"),
    (r"(POST|PUT|PATCH|DELETE) /api/v1/(feature-flags|segments)(?!/evaluate).*", _FLAG_WRITE),
    (r"\w+ /api/v1/feature-flags/.*", "flag_not_found"),
    (r"POST /api/v1/feature-flags/.*/restore", "flag_not_archived"),
    (
        r"POST /api/v1/feature-flags/.*/rollback",
        "flag_version_is_deletion flag_version_not_found",
    ),
    (r"POST /api/v1/feature-flags/.*/copy", "flag_references_missing"),
    (r"\w+ /api/v1/segments/.*", "segment_not_found"),
    (r"POST /api/v1/feature-flags/evaluate.*", "context_too_large evaluation_too_long"),
    (r"\w+ /api/v1/feature-flags/(im|ex)port", "bad_file flags_not_expressed file_too_complex"),
    (r"\w+ /ofrep/.*", "bad_environment flags_unavailable evaluation_too_long"),
    (r"\w+ /api/v1/registry/.*", "bad_service_name registry_store_unavailable"),
    (r"(POST|PUT) /api/v1/registry/.*", _REGISTRY_WRITE),
    (r"GET /api/v1/registry/services$", "bad_cursor"),
    (r"GET /api/v1/registry/services/.*/url", "key_missing no_instance"),
    (r"GET /api/v1/registry/(discover|services)/.*", "bad_instance_environment"),
    (r"GET /api/v1/registry/prometheus", "registry_in_doubt"),
    (r"GET /api/v1/changes", "bad_cursor bad_filter bad_kind change_log_unavailable"),
    (r"GET /(api|ofrep)/v1/stream", "bad_filter bad_kind too_many_streams change_log_unavailable"),
    (r"GET /(api|ofrep)/v1/stream", "too_many_streams_of_caller"),
    (r"GET /api/v1/writes/.*", "write_not_found change_log_unavailable"),
    (r"\w+ /api/v1/tokens.*", "access_open bad_cursor bad_token token_store_unavailable"),
    (r"\w+ /api/v1/tokens/.*", "token_not_found"),
    (r"GET /api/v1/audit", "audit_unavailable bad_cursor bad_moment"),
    (r"GET /stats", "change_log_unavailable"),
)


def codes_of(operation: str) -> list[str]:
    """Return the codes of an operation, `METHOD /path/{template}`, in order."""
    return sorted({code for one in _matching(operation) for code in one.split()})


def _matching(operation: str) -> Iterator[str]:
    return (codes for pattern, codes in _RULES if re.fullmatch(pattern, operation))


def add_codes(document: Mapping[str, Any], statuses: Mapping[str, int]) -> None:
    """Name the codes of every operation where its refusals and failures are described.

    `statuses` has the HTTP status of every code.
    """
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            codes = codes_of(f"{method.upper()} {path}")
            operation["x-problem-codes"] = codes
            for family in ("4XX", "5XX"):
                named = [code for code in codes if str(statuses[code])[0] == family[0]]
                response = operation["responses"][family]
                listed = ", ".join(f"`{code}` ({statuses[code]})" for code in named)
                response["description"] = f"{response['description']} One of {listed}."
