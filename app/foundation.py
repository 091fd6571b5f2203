"""What the features are built on: the capabilities below them, opened before."""

from dataclasses import dataclass

from app.access.feature import Access
from app.audit.feature import Audit
from app.cache.port import Cache
from app.changes.feature import Changes
from app.settings import Settings
from app.web.freshness import Freshness


@dataclass(frozen=True, slots=True)
class Foundation:
    settings: Settings
    version: str  # of this service
    cache: Cache
    changes: Changes
    access: Access
    audit: Audit
    fresh: Freshness
