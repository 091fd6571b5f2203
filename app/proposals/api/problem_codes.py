"""The problem codes of operations on proposals."""

from app.web.problem_codes import CodeRules

_APPLY = "approvals_missing bad_release bad_schedule checks_failed not_releasable proposal_stale"
_REVIEW = (
    "checks_failed proposal_stale reviewer_not_asked reviewer_unknown round_moved self_approval"
)
_ROUND = "bad_item item_refused items_overlap nothing_proposed proposal_too_large"
PROBLEM_CODES: CodeRules = (
    (r"\w+ /api/v1/proposals.*", "proposals_unavailable"),
    (r"\w+ /api/v1/proposals/\{proposal_id\}.*", "proposal_not_found"),
    (r"GET /api/v1/proposals", "bad_cursor"),
    (r"POST /api/v1/proposals", f"{_ROUND} idempotency_key_reused too_many_proposals"),
    (
        r"PATCH /api/v1/proposals/.*",
        f"{_ROUND} bad_if_match bad_round rebase_conflict round_taken stale_round",
    ),
    (r"(PATCH|POST) /api/v1/proposals/.*", "proposal_body_missing proposal_moved proposal_state"),
    (
        r"POST /api/v1/proposals/\{proposal_id\}/reviews",
        f"{_REVIEW} too_many_reviews",
    ),
    (
        r"POST /api/v1/proposals/\{proposal_id\}/apply",
        f"{_APPLY} release_running releases_unavailable too_many_releases window_closed",
    ),
)
