"""The problem codes of operations on releases and readers."""

from app.web.problem_codes import CodeRules

PROBLEM_CODES: CodeRules = (
    (r"\w+ /api/v1/(releases|readers).*", "releases_unavailable"),
    (r"GET /api/v1/(releases|readers)", "bad_cursor"),
    (r"\w+ /api/v1/releases/\{release_id\}.*", "release_not_found"),
    (
        r"POST /api/v1/releases/\{release_id\}/(next|hold|resume)",
        "bad_if_match release_ended release_moved",
    ),
    (r"POST /api/v1/releases/\{release_id\}/abort", "release_ended release_moved"),
    (r"POST /api/v1/readers", "bad_name"),
)
