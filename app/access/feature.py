"""Builds the access control of the service from its settings and the token store."""

from dataclasses import dataclass
from functools import partial

import structlog
from pydantic import SecretStr

from app.access.authentication import Authenticator, OpenAccess
from app.access.caller import authenticate_request
from app.access.identity import Lineage
from app.access.limits import RateLimiter
from app.access.oidc.authenticator import KeySource, OidcAuthenticator, RoleMapping
from app.access.root_secret import TOKENS, derive_key
from app.access.tickets import StreamTickets
from app.access.tokens.authenticator import TokenAuthenticator
from app.access.tokens.cache import ADMIN, TokenCache
from app.access.tokens.last_used import LastUsedRecorder
from app.access.tokens.port import TokenStore
from app.access.tokens.router import router
from app.access.tokens.service import TokenService
from app.changes.follower import Follower
from app.feature import Feature, Routes
from app.settings import Settings
from app.web.sites import SitePolicy

TOKEN_ROUTES = Routes(
    routers=(router,),
    problem_codes=(
        (r"\w+ /api/v1/tokens.*", "access_open bad_cursor bad_token token_store_unavailable"),
        (r"\w+ /api/v1/tokens/.*", "token_not_found"),
    ),
)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Access:
    authenticator: Authenticator
    token_cache: TokenCache
    lineage: Lineage
    feature: Feature


def build_access(
    settings: Settings,
    follower: Follower,
    store: TokenStore,
    issuer: KeySource | None,
    root_secret: bytes,
) -> Access:
    """Build it; without an `issuer`, only tokens of machines are accepted."""
    key = derive_key(root_secret, TOKENS)
    token_cache = TokenCache(store, follower, key, _secret_text(settings.pilothouse_admin_token))
    follower.listeners.before_apply(token_cache.prepare)
    authenticator = _build_authenticator(settings, token_cache, issuer, root_secret)

    async def start() -> None:
        _warn_without_admin(settings, token_cache)

    feature = Feature(
        state={
            "authenticator": authenticator,
            "authenticate": lambda request: authenticate_request(request, authenticator),
            "sites": _build_site_policy(settings),
            "tokens": TokenService(store, token_cache, key),
            "unknown_rates": RateLimiter(settings.unknown_caller_limit),
        },
        start=start,
        tasks={
            "note_uses_of_tokens": LastUsedRecorder(store, token_cache).run,
            "expire_tokens": token_cache.watch_expiry,
        },
    )
    lineage = Lineage(partial(_maker_of, token_cache), frozenset({ADMIN}))
    return Access(authenticator, token_cache, lineage, feature)


def _maker_of(token_cache: TokenCache, token_id: str) -> str | None:
    token = token_cache.tokens.get(token_id)
    return None if token is None else token.created_by_id


def _build_authenticator(
    settings: Settings, token_cache: TokenCache, issuer: KeySource | None, root_secret: bytes
) -> Authenticator:
    if settings.pilothouse_access == "open":
        return OpenAccess()
    protected = settings.protected_environments
    people = None
    if issuer is not None:
        assert settings.oidc_issuer is not None
        assert settings.oidc_audience is not None  # refuse_unsafe has seen to it
        people = OidcAuthenticator(
            issuer,
            settings.oidc_issuer,
            settings.oidc_audience,
            name_claim=settings.oidc_name_claim,
            roles_claim=settings.oidc_roles_claim,
            roles=[RoleMapping(**mapping.model_dump()) for mapping in settings.roles_of_claims],
            protected=protected,
            clients=settings.allowed_clients,
        )
    tickets = StreamTickets(derive_key(root_secret, "tickets"))
    return TokenAuthenticator(
        token_cache, people, tickets, RateLimiter(settings.caller_request_limit), protected
    )


def _build_site_policy(settings: Settings) -> SitePolicy:
    if settings.pilothouse_access == "required":
        return SitePolicy.of_required_access(settings.allowed_origins)
    return SitePolicy.of_open_access(
        settings.host, settings.allowed_host_names, settings.allowed_origins
    )


def _secret_text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _warn_without_admin(settings: Settings, token_cache: TokenCache) -> None:
    if (
        settings.pilothouse_access == "required"
        and token_cache.is_loaded
        and not token_cache.has_admin
    ):
        _log.warning(
            "no_admin_token",
            note="no caller can create tokens: set PILOTHOUSE_ADMIN_TOKEN, or run"
            " `python -m app token create --class admin --name NAME`",
        )
