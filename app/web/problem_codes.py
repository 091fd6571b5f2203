"""The problem codes of each operation, for the OpenAPI document.

A test compares them with the responses to bad requests.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

CodeRules = Sequence[tuple[str, str]]  # codes by a pattern of "METHOD path"; all that match count
_EVERYWHERE = (
    "bad_content_length bad_host bad_http bad_path bad_query foreign_host foreign_origin "
    "headers_too_large internal_error invalid method_not_allowed refused request_too_slow "
    "too_large trailers_refused workers_busy"
)
WITH_BODY = "bad_json bad_text unsupported_media_type"
# Of routes that authenticate their callers.
ACCESS_CODES = (
    "credentials_contradict denied issuer_unavailable revision_not_reached state_unavailable "
    "token_missing token_refused tokens_unavailable too_many_refusals too_many_requests"
)
_RULES: CodeRules = (
    (r".*", _EVERYWHERE),
    (r"(POST|PUT|PATCH) .*", WITH_BODY),
    (r"\w+ /api/.*", ACCESS_CODES),
    (r"(POST|PUT|PATCH|DELETE) /api/.*", "bad_bypass_reason"),
)


def codes_of(operation: str, rules: CodeRules) -> list[str]:
    """Return the codes of an operation, `METHOD /path/{template}`, in order."""
    every = (codes for pattern, codes in (*_RULES, *rules) if re.fullmatch(pattern, operation))
    return sorted({code for codes in every for code in codes.split()})


def add_codes(document: Mapping[str, Any], rules: CodeRules, statuses: Mapping[str, int]) -> None:
    """Name the codes of every operation where its refusals and failures are described.

    `rules` are those of all features, `statuses` has the HTTP status of every code.
    """
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            codes = codes_of(f"{method.upper()} {path}", rules)
            operation["x-problem-codes"] = codes
            for family in ("4XX", "5XX"):
                named = [code for code in codes if str(statuses[code])[0] == family[0]]
                response = operation["responses"][family]
                listed = ", ".join(f"`{code}` ({statuses[code]})" for code in named)
                response["description"] = f"{response['description']} One of {listed}."
