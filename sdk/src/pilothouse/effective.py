"""The effective configuration as a resource: what of an answer is held, and what is refused."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pilothouse.config_state import ConfigState, Source, state_of, without_secrets
from pilothouse.configuration import Configuration
from pilothouse.errors import BadAnswer
from pilothouse.releases import Participant
from pilothouse.sync import Resource
from pilothouse.transport import Answer, Transport
from pilothouse_core.trees import (
    OWN_VALUE,
    Tree,
    child_key,
    contains_key,
    has_own_value,
    is_section,
    node_at,
    with_change_at,
    without_key,
)

PATH = "/api/v1/effective"
Validate = Callable[[Any], object]
Judge = Callable[[Tree, int], Awaitable[None]]


@dataclass(frozen=True)
class ConfigTarget:
    """The target of a configuration: an environment, a service, and optionally a user.

    `schema_defaults`: it is read with the defaults of schemas. `instance`: who reads it.
    """

    environment: str
    service: str
    user: str | None = None
    schema_defaults: bool = False
    instance: str | None = None

    @property
    def params(self) -> dict[str, str]:
        params = self.content_params
        if self.instance is not None:
            params["instance"] = self.instance
        return params

    @property
    def content_params(self) -> dict[str, str]:
        """The parameters without the instance: what an instance reads is a part of the same."""
        params = self.selection
        if self.user is not None:
            params["user"] = self.user
        if self.schema_defaults:
            params["defaults"] = "true"
        return params

    @property
    def selection(self) -> dict[str, str]:
        """The parameters of the event stream with its changes."""
        return {"environment": self.environment, "service_name": self.service}

    def concerns(self, change: Mapping[str, Any]) -> bool:
        """Return whether a change concerns one of the layers; every schema may."""
        if change.get("kind") == "schema":
            return True
        if change.get("kind") == "release":
            return str(change.get("name")).startswith(f"{self.service}/")
        layers = {self.service, "_shared", f"{self.service}/{self.user}"}
        return change.get("name") in layers


class EffectiveConfiguration:
    """Reads into a `Configuration`; `transport` returns the current transport.

    `judge` gets the written values of each answer, secrets masked, and the revision that the
    schemas have to reach. It raises PilothouseError to refuse the answer. When the service says
    that nothing has changed, it gets those of the held answer again: the schemas may be others.
    """

    def __init__(  # noqa: PLR0913 - each decides what is held
        self,
        whose: ConfigTarget,
        config: Configuration,
        transport: Callable[[], Transport],
        *,
        validate: Validate | None = None,
        reveals: bool = False,
        keeps_secrets: bool = False,
        judge: Judge | None = None,
    ) -> None:
        self._whose = whose
        self._config = config
        self._transport = transport
        self._validate = validate
        self._reveals = reveals
        self._keeps_secrets = keeps_secrets
        self._judge = judge
        self._judged_tree: Tree = {}  # what was judged of the held answer
        self._last_answer: dict[str, Any] | None = None  # the service's answer, without defaults
        kinds = {"config"}
        self.participant: Participant | None = None
        if whose.instance is not None:
            self.participant = Participant(whose.instance, whose.selection, transport)
            kinds.add("release")
        if judge is not None or whose.schema_defaults:
            kinds.add("schema")
        self.resource = Resource(
            "configuration",
            PATH,
            whose.params,
            self._accept,
            kinds=frozenset(kinds),
            concerns=self._concerns,
            saved=self._snapshot_content,
            restore=self._restore,
            recheck=None if judge is None else self._recheck,
        )

    def _concerns(self, change: Mapping[str, Any]) -> bool:
        if change.get("kind") != "release":
            return self._whose.concerns(change)
        is_own = str(change.get("name")).startswith(f"{self._whose.service}/")
        return is_own and self.participant is not None and self.participant.is_moved(change)

    async def _accept(self, answer: Answer) -> None:
        body = answer.object()
        if self.participant is not None:
            self.participant.note_answer(body)
        data, revision = _parts(body)
        layered: Tree = {}
        if self._judge is not None:
            layered = _values_of_layers(body, data)
            await self._judge(layered, self.resource.revision)
        _, hidden = without_secrets(data)
        if self._reveals and hidden:
            data = await self._fetch_revealed(body, revision)
        try:
            self._hold(data, "service", revision, answer.etag)
        except BadAnswer as refusal:
            await self._report("refused", answer.etag, type(refusal.__cause__).__name__)
            raise
        await self._report("adopted", answer.etag)
        self._judged_tree = layered
        kept = data if self._keeps_secrets else _without_all(data, hidden)
        self._last_answer = {"data": kept, "revision": revision, "version": answer.etag}

    async def _report(
        self, outcome: Literal["adopted", "refused"], etag: str, code: str = ""
    ) -> None:
        if self.participant is not None:
            await self.participant.report(outcome, etag, code)

    async def _recheck(self) -> None:
        if self._judge is not None:
            await self._judge(self._judged_tree, self.resource.revision)

    async def _fetch_revealed(self, masked: Mapping[str, Any], revision: int) -> Tree:
        """Return the plain values of exactly the versions of a masked answer.

        Only masked answers show which values are secret, and have an ETag.
        """
        params = {**self._whose.params, "reveal": "true", "min_revision": str(revision)}
        body = (await self._transport().get(PATH, params)).object()
        if any(body.get(name) != masked.get(name) for name in ("layers", "release")):
            raise BadAnswer("the configuration changed while its secrets were read")
        return _parts(body)[0]

    def _hold(self, data: Tree, source: Source, revision: int, version: str) -> None:
        held = state_of(
            data, self._config.defaults, source=source, revision=revision, version=version
        )
        self._check(held)
        self._config.swap(held)

    def _check(self, held: ConfigState) -> None:
        if self._validate is None:
            return
        try:
            self._validate(held.data)
        except Exception as error:
            # Its message may quote values; it is only in the cause.
            raise BadAnswer(f"refused by `validate`: {type(error).__name__}") from error

    def _snapshot_content(self) -> Any:
        return self._last_answer

    def _restore(self, saved: Any) -> None:
        if not isinstance(saved, dict):
            raise BadAnswer("a snapshot without a configuration")
        data, revision = _parts(saved)
        self._hold(data, "snapshot", revision, str(saved.get("version", "")))
        self._last_answer = saved


def _parts(body: Mapping[str, Any]) -> tuple[Tree, int]:
    data, revision = body.get("data"), body.get("revision")
    if not isinstance(data, dict) or type(revision) is not int:
        raise BadAnswer("an answer without `data` and `revision`: this is not a configuration")
    return data, revision


def _values_of_layers(body: Mapping[str, Any], data: Tree) -> Tree:
    """Return the values of an answer that a layer has: defaults of schemas are not judged."""
    sources = body.get("sources")
    if not isinstance(sources, dict):
        return data
    defaulted = {key for key, source in sources.items() if "schema" in source}
    return _without_leaves(data, defaulted) if defaulted else data


def _without_leaves(tree: Tree, keys: set[str], prefix: str = "") -> Tree:
    """Return a copy without the leaves at `keys`, as merged without the layer that has them."""
    kept: Tree = {}
    for name, value in tree.items():
        key = child_key(prefix, name)
        if is_section(value):
            below = _without_leaves(value, keys, key)
            if below:
                kept[name] = below[OWN_VALUE] if below.keys() == {OWN_VALUE} else below
        elif key not in keys:
            kept[name] = value
    return kept


def _without_all(tree: Tree, keys: set[str]) -> Tree:
    for key in keys:
        if has_own_value(node_at(tree, key)):
            tree = without_key(tree, f"{key}[{OWN_VALUE}]")
        elif contains_key(tree, key):
            # An item of a list has no name to take it out by: the others keep their numbers.
            tree = without_key(with_change_at(tree, key, lambda _: None), key)
    return tree
