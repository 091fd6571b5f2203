"""Headers that tell caches what they may store of a response."""

from collections.abc import Collection

Header = tuple[bytes, bytes]
# Responses of one URL differ by caller.
_CREDENTIALS = (b"Authorization", b"X-API-Key")
_ORIGIN = (b"Origin",)
_PRIVATE = (b"cache-control", b"private")
_CACHE_HEADERS = frozenset({b"vary", b"cache-control"})


def _names(*, is_known: bool, varies_by_origin: bool) -> tuple[bytes, ...]:
    return (*_CREDENTIALS * is_known, *_ORIGIN * varies_by_origin)


_ADDED = {
    (is_known, varies_by_origin): (
        (b"vary", b", ".join(_names(is_known=is_known, varies_by_origin=varies_by_origin))),
        *(_PRIVATE,) * is_known,
    )
    for is_known in (False, True)
    for varies_by_origin in (False, True)
}


def cache_headers(
    headers: Collection[Header], *, is_known: bool, varies_by_origin: bool
) -> list[Header]:
    """Return the headers of a response with those for caches.

    The response to an authenticated caller is private. If CORS origins are configured, it varies by
    `Origin`, even for requests without one.
    """
    if not is_known and not varies_by_origin:
        return list(headers)
    kept = [header for header in headers if header[0] not in _CACHE_HEADERS]
    if len(kept) == len(headers):  # the case of most responses
        kept.extend(_ADDED[is_known, varies_by_origin])
        return kept
    names = _names(is_known=is_known, varies_by_origin=varies_by_origin)
    kept = []
    varies: list[bytes] = []
    has_cache_control = False
    for header in headers:
        if header[0] == b"vary":
            varies.append(header[1])
            continue
        has_cache_control = has_cache_control or header[0] == b"cache-control"
        kept.append(header)
    present = {name.strip().lower() for value in varies for name in value.split(b",")}
    varies += [name for name in names if name.lower() not in present]
    kept.append((b"vary", b", ".join(varies)))
    if is_known and not has_cache_control:
        kept.append(_PRIVATE)
    return kept
