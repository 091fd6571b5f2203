"""The whole flag set of an environment as JSON, for local evaluation."""

from app.flags.cache import EnvironmentFlags


def encode_flag_set(environment: EnvironmentFlags) -> bytes:
    """Encode the flags and segments that are not deleted, as they were stored."""
    flags, segments = (
        b",".join(
            b'%b,"version":%d}' % (item.definition[:-1].encode(), item.version)
            for item in environment.items.values()
            if item.kind == kind and not item.is_deleted
        )
        for kind in ("flag", "segment")
    )
    return b'{"environment":"%b","revision":%d,"flags":[%b],"segments":[%b]}' % (
        environment.name.encode(),
        environment.revision,
        flags,
        segments,
    )
