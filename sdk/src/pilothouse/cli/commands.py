"""What every command shares: its options wherever they are typed, its surroundings, its end."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any

import typer

from pilothouse.cli.api import Api
from pilothouse.cli.exit_codes import ExitCode, Failure, of_error
from pilothouse.cli.output import Output
from pilothouse.cli.profiles import Profile, resolve_profile
from pilothouse.errors import PilothouseError

BASE, SHARED = "default", "_shared"
_PANEL = "Shared options"


def _option(*names: str, words: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=words, metavar=metavar, rich_help_panel=_PANEL)


_Service = Annotated[
    str | None, _option("--service", "-s", words="The service. \\[env: PILOTHOUSE_SERVICE]")
]
_Environment = Annotated[
    str | None,
    _option("--environment", "-e", words="The environment. \\[env: PILOTHOUSE_ENVIRONMENT]"),
]
_User = Annotated[str | None, _option("--user", "-u", words="The user.")]
_Url = Annotated[
    str | None, _option("--url", words="The URL of the service. \\[env: PILOTHOUSE_URL]")
]
_Token = Annotated[
    str | None, _option("--token", words="The token of the caller. \\[env: PILOTHOUSE_TOKEN]")
]
_Profile = Annotated[
    str | None, _option("--profile", words="A profile. \\[env: PILOTHOUSE_PROFILE]")
]
_Proxy = Annotated[
    str | None,
    _option(
        "--proxy",
        words="URL of a proxy, 'environment' for HTTPS_PROXY and the like, or 'none'."
        " \\[env: PILOTHOUSE_PROXY]",
    ),
]
_Json = Annotated[bool, _option("--json", words="Print the API's own JSON.")]
_SHARED: dict[str, Any] = {
    "service": _Service,
    "environment": _Environment,
    "user": _User,
    "url": _Url,
    "token": _Token,
    "profile": _Profile,
    "proxy": _Proxy,
    "as_json": _Json,
}


@dataclass(frozen=True)
class SharedOptions:
    """The shared options as typed so far; later ones override earlier ones."""

    service: str | None = None
    environment: str | None = None
    user: str | None = None
    url: str | None = None
    token: str | None = None
    profile: str | None = None
    proxy: str | None = None
    as_json: bool = False

    def over(self, typed: Mapping[str, Any]) -> "SharedOptions":
        return replace(self, **{name: value for name, value in typed.items() if value})


class Session:
    """The context of one command: service, caller, addressed layer and output."""

    def __init__(self, options: SharedOptions) -> None:
        self.options = options
        self.output = Output(as_json=options.as_json)

    @cached_property
    def profile(self) -> Profile:
        options = self.options
        stated = Profile(
            options.url, options.token, options.service, options.environment, options.proxy
        )
        return resolve_profile(stated, options.profile)

    @cached_property
    def api(self) -> Api:
        profile = self.profile
        return Api(str(profile.url), profile.token, profile.proxy)

    @property
    def environment(self) -> str:
        return self.profile.environment or BASE

    @property
    def service(self) -> str:
        return self.profile.service or SHARED

    @property
    def layer(self) -> dict[str, Any]:
        """The addressed layer as query parameters."""
        names = {"environment": self.environment, "service_name": self.service}
        return names if self.options.user is None else {**names, "user": self.options.user}

    def close(self) -> None:
        if "api" in self.__dict__:
            self.api.close()


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], None]:
    """Register `function(session, ...)`, and add the shared options to its own."""

    def register(function: Callable[..., None]) -> None:
        _, *own = inspect.signature(function).parameters.values()

        def run(**typed: Any) -> None:
            context: typer.Context = typed.pop("typer_context")
            shared = {option: typed.pop(option) for option in _SHARED}
            session = Session(_global_options(context).over(shared))
            try:
                function(session, **typed)
            except (Failure, PilothouseError) as error:
                failure = error if isinstance(error, Failure) else of_error(error)
                session.output.print_failure(failure)
                raise typer.Exit(failure.exit_code) from None
            except BrokenPipeError:
                raise typer.Exit(ExitCode.PIPE_CLOSED) from None
            finally:
                session.close()

        _shape(run, own)
        run.__doc__ = function.__doc__
        app.command(name or function.__name__.strip("_"))(run)

    return register


def group(app: typer.Typer) -> None:
    """Accept the shared options before the names of `app`'s commands as well."""

    def take(**typed: Any) -> None:
        context: typer.Context = typed.pop("typer_context")
        context.obj = _global_options(context).over(typed)

    _shape(take, [])
    app.callback()(take)


def _global_options(context: typer.Context) -> SharedOptions:
    return context.obj if isinstance(context.obj, SharedOptions) else SharedOptions()


def _shape(function: Callable[..., None], own: list[inspect.Parameter]) -> None:
    """Give a function the signature that Typer reads: its own parameters and the shared ones."""
    context = inspect.Parameter(
        "typer_context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context
    )
    shared = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if name == "as_json" else None,
            annotation=annotation,
        )
        for name, annotation in _SHARED.items()
    ]
    parameters = [
        context,
        *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own),
        *shared,
    ]
    function.__dict__["__signature__"] = inspect.Signature(parameters)
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
