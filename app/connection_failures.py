"""Reasons why a server cannot be reached, in terms of the settings, from exceptions of its driver.

Only kinds of failures are reported, never their texts, which may contain part of a password.
"""

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from socket import AF_UNSPEC, EAI_AGAIN, SOCK_STREAM, gaierror
from typing import Final

_LOOKUP_SECONDS: Final = 0.4
_HOSTNAME_MISMATCH: Final = 62  # of OpenSSL


def exception_chain(failure: BaseException) -> Iterator[BaseException]:
    """Yield a failure and its causes, the nearest first."""
    seen: set[int] = set()
    rest: list[BaseException | None] = [failure]
    while rest:
        one = rest.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            rest += one.exceptions
        # SQLAlchemy keeps the driver's error as `orig`, aiohttp the system's as `os_error`.
        rest += [getattr(one, name, None) for name in ("orig", "os_error", "certificate_error")]
        rest += [one.__cause__, one.__context__]


def explain_connection_failure(failure: BaseException, setting: str) -> str | None:
    """Explain why the server in `setting` cannot be reached; None if the cause is unknown."""
    explanations = (_explain(cause) for cause in exception_chain(failure))
    return next((one.format(setting) for one in explanations if one is not None), None)


def _explain(cause: BaseException) -> str | None:  # noqa: PLR0911 - one answer for each kind
    match cause:
        case ssl.SSLCertVerificationError() if not hasattr(cause, "verify_code"):
            return None  # aiohttp's own, which has the real one as `certificate_error`
        case ssl.SSLCertVerificationError() if cause.verify_code == _HOSTNAME_MISMATCH:
            return "the certificate there is for another host than {} names"
        case ssl.SSLCertVerificationError():
            return "the certificate of the server in {} is not trusted"
        case ssl.SSLError():
            return "the server in {} does not speak TLS"
        case gaierror():
            is_silent = cause.errno == EAI_AGAIN
            return "no name server answers for {}" if is_silent else "the host in {} does not exist"
        case FileNotFoundError() | PermissionError():
            return "a file that {} names cannot be read"
        case ConnectionRefusedError():
            return "nothing listens where {} points to"
        case _:
            return None


async def find_unknown_hosts(hosts: Sequence[str]) -> list[str]:
    """Return the `hosts` that do not exist; a slow name server does not count."""
    loop = asyncio.get_running_loop()

    async def is_unknown(host: str) -> bool:
        try:
            async with asyncio.timeout(_LOOKUP_SECONDS):
                await loop.getaddrinfo(host, None, family=AF_UNSPEC, type=SOCK_STREAM)
        except gaierror as error:
            return error.errno != EAI_AGAIN
        except (OSError, TimeoutError, UnicodeError):
            return False
        return False

    unknown = await asyncio.gather(*map(is_unknown, hosts))
    return [host for host, is_one in zip(hosts, unknown, strict=True) if is_one]


def hosts_of(servers: str) -> list[str]:
    """Return the hosts in `host:port,host:port/path`, each once."""
    entries = (entry.strip() for entry in servers.partition("/")[0].split(","))
    hosts = (
        entry[1:].partition("]")[0] if entry.startswith("[") else entry.partition(":")[0]
        for entry in entries
    )
    return list(dict.fromkeys(hosts))
