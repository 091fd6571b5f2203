"""Profiles: where the service is and who is asking, kept in one file that only its owner reads.

An INI file, because Python 3.10 reads no TOML; one section a profile.
"""

import os
from configparser import ConfigParser, Error
from dataclasses import dataclass, fields, replace
from pathlib import Path

from pilothouse.cli.exit_codes import usage

DEFAULT_PROFILE = "default"
DEFAULT_URL = "http://127.0.0.1:8082"


@dataclass(frozen=True)
class Profile:
    """The settings of a profile; None is not set."""

    url: str | None = None
    token: str | None = None
    service: str | None = None
    environment: str | None = None
    proxy: str | None = None


_MEMBERS = tuple(member.name for member in fields(Profile))


def config_file() -> Path:
    """Return `$XDG_CONFIG_HOME/pilothouse/config.ini`, whether it exists or not."""
    home = os.environ.get("XDG_CONFIG_HOME")
    folder = Path(home) if home else Path.home() / ".config"
    return folder / "pilothouse" / "config.ini"


def _read(file: Path) -> ConfigParser:
    parser = ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError, Error) as error:
        # The parser's own message quotes the line, and a line may hold a token.
        raise usage(f"{file} cannot be read as profiles ({type(error).__name__})") from None
    return parser


def read_profile(name: str | None) -> Profile:
    """Return a profile; raises Failure (usage) if the named one does not exist."""
    parser = _read(config_file())
    wanted = name or DEFAULT_PROFILE
    if not parser.has_section(wanted):
        if name is not None and name != DEFAULT_PROFILE:
            raise usage(
                f"there is no profile {name!r} in {config_file()}; `pilothouse login` creates it"
            )
        return Profile()
    section = parser[wanted]
    return Profile(**{member: section[member] for member in _MEMBERS if section.get(member)})


def store(name: str, profile: Profile) -> Path:
    """Write one profile, whole or not at all, and return the file; its mode is 0600."""
    file = config_file()
    parser = _read(file)
    parser[name] = {
        member: value for member in _MEMBERS if (value := getattr(profile, member)) is not None
    }
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as text:
        parser.write(text)
    draft.replace(file)
    return file


def resolve_profile(options: Profile, name: str | None) -> Profile:
    """Return the settings in force: options, else environment variables, else the profile.

    Token and proxy of the profile are used only with the profile's own URL.
    """
    named = Profile(**{member: _variable(member) for member in _MEMBERS})
    kept = read_profile(name or os.environ.get("PILOTHOUSE_PROFILE") or None)
    url = options.url or named.url or kept.url or DEFAULT_URL
    if url.rstrip("/") != (kept.url or DEFAULT_URL).rstrip("/"):
        kept = replace(kept, token=None, proxy=None)
    return Profile(
        url=url,
        token=options.token or named.token or kept.token,
        service=options.service or named.service or kept.service,
        environment=options.environment or named.environment or kept.environment,
        proxy=options.proxy or named.proxy or kept.proxy,
    )


def _variable(member: str) -> str | None:
    return os.environ.get(f"PILOTHOUSE_{member.upper()}") or None
