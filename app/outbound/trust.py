"""The certificates that are trusted where callers choose the addresses."""

from ssl import SSLContext, create_default_context

from app.production_checks import StartRefused


def load_trust(ca_file: str | None) -> SSLContext | None:
    """Return a TLS context for HEALTH_CHECK_CA_FILE; raises StartRefused if it cannot be read."""
    try:
        return trusting_context(ca_file)
    except OSError as error:  # what ssl raises for a file without certificates is one as well
        raise StartRefused([f"HEALTH_CHECK_CA_FILE: {error}"]) from error


def trusting_context(ca_file: str | None) -> SSLContext | None:
    """Return a TLS context that also trusts the authorities in a file; raises OSError."""
    if ca_file is None:
        return None
    context = create_default_context()
    context.load_verify_locations(ca_file)
    return context
