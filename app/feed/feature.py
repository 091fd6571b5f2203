"""Builds the part of the service that reports changes: the list, and the event stream."""

from app.changes.stream.hub import Describe, Hub
from app.feature import Feature, Routes
from app.feed.router import router
from app.feed.router_stream import router as stream_router
from app.foundation import Foundation
from app.rules.verifier import Verifier
from app.web.path_rules import PathRules

_STREAM = "bad_filter bad_kind too_many_streams too_many_streams_of_caller"
FEED_ROUTES = Routes(
    routers=(router, stream_router),
    path_rules=PathRules(foreign_segments=dict.fromkeys(("events", "watch"), "stream")),
    problem_codes=(
        (r"GET /api/v1/changes", "bad_cursor bad_filter bad_kind change_log_unavailable"),
        (r"GET /api/v1/stream", f"{_STREAM} change_log_unavailable"),
        (r"GET /api/v1/writes/.*", "write_not_found change_log_unavailable"),
    ),
)


def build_feed(base: Foundation, verifier: Verifier, describe: Describe) -> Feature:
    """`describe` returns further members of the event of a change."""
    settings, token_cache = base.settings, base.access.token_cache
    hub = Hub(settings.stream_limit, settings.caller_stream_limit, token_cache.is_ended, describe)
    token_cache.listen(hub.close_streams_of)
    base.changes.follower.listeners.on_change(hub.publish)
    verifier.on_change(hub.publish)
    return Feature(state={"hub": hub}, begin_shutdown=hub.drain)
