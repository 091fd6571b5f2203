"""Flags, evaluated here: every answer is a look into memory, and nothing is ever raised."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from pilothouse.callbacks import Listeners, WarnOnce
from pilothouse.copies import deep_copy
from pilothouse.errors import PilothouseError
from pilothouse.flags.contexts import plain
from pilothouse.flags.details import (
    GENERAL,
    INVALID_CONTEXT,
    NOT_READY,
    FlagDetails,
    details_of,
    failed_evaluation,
)
from pilothouse.flags.overrides import override
from pilothouse.flags.state import FlagState, Source, changed_between
from pilothouse.flags.usage import UsageCounts
from pilothouse.forks import ForkLock
from pilothouse_core.contexts import is_too_large
from pilothouse_core.evaluation import EMPTY, FLAG_NOT_FOUND, Evaluation
from pilothouse_core.flags.metadata import metadata_of
from pilothouse_core.flags.model import Flag

OnUpdate = Callable[[frozenset[str]], object]
OnStatus = Callable[[PilothouseError | None], object]
_swapping = ForkLock()
_log = logging.getLogger("pilothouse")


class Flags:
    """Evaluations by the code that the service itself runs. Safe to use from every thread.

    A context is given by keywords: `user_id` fills the attributes `user_id` and `targetingKey`,
    all others are attributes of their names. Lists, dicts, dates, enums and UUIDs are seen by
    rules as JSON would carry them.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._held = FlagState()
        self._set = EMPTY
        self._overrides: Mapping[str, Flag] = {}
        self._warnings = WarnOnce()
        self._listeners = Listeners("flags")
        self._watchers = Listeners("flags")
        self.usage = UsageCounts()
        # Hooks of the client: before an evaluation, for callbacks, for ages and errors.
        self.touch: Callable[[], None] = lambda: None
        self.deliver: Callable[[Callable[[], None]], None] = lambda call: call()
        self.age_of: Callable[[], float] = lambda: math.inf
        self.error_of: Callable[[], PilothouseError | None] = lambda: None
        self.stale_after = 0.0
        self.is_offline = False

    # Evaluating

    def is_on(
        self,
        name: str,
        /,
        *,
        default: bool = False,
        user_id: str | int | None = None,
        **context: Any,
    ) -> bool:
        """Tell the value of a boolean flag, of others whether they serve a variant but the off one.

        `default` where there is no answer: no such flag, nothing read yet, no variant.
        """
        evaluation = self.evaluate(name, user_id, context)
        if evaluation.variant is None:
            return default
        value = evaluation.value
        if value is True or value is False:
            return value
        compiled = self._set.flags.get(name)
        return compiled is not None and evaluation.variant != compiled.flag.off_variant

    def variant(
        self,
        name: str,
        /,
        *,
        default: str | None = None,
        user_id: str | int | None = None,
        **context: Any,
    ) -> str | None:
        """Return the name of the variant that is served, `default` if there is none."""
        variant = self.evaluate(name, user_id, context).variant
        return default if variant is None else variant

    def value(
        self, name: str, /, default: Any = None, *, user_id: str | int | None = None, **context: Any
    ) -> Any:
        """Return the value of the variant that is served, `default` if there is none.

        It has the type of the flag. Dicts and lists are the caller's own copies.
        """
        evaluation = self.evaluate(name, user_id, context)
        return default if evaluation.variant is None else deep_copy(evaluation.value)

    def details(
        self, name: str, /, default: Any = None, *, user_id: str | int | None = None, **context: Any
    ) -> FlagDetails:
        """Return the value with the reason and the rule that led to it."""
        evaluation = self.evaluate(name, user_id, context)
        value = default if evaluation.variant is None else deep_copy(evaluation.value)
        return details_of(evaluation, value, self._held.revision)

    def evaluate(self, name: str, user_id: str | int | None, context: dict[str, Any]) -> Evaluation:
        """Evaluate and count. `context` may be changed. Never raises."""
        try:
            self.touch()
            if user_id is not None:
                context["user_id"] = context["targetingKey"] = user_id
            seen = plain(context)
            if is_too_large(seen):
                self._warn(str(name), INVALID_CONTEXT)
                return failed_evaluation(name, INVALID_CONTEXT)
            evaluation = self._set.evaluate(name, seen, self._clock())
            if evaluation.variant is not None:
                self.usage.add(name, evaluation.variant)
                return evaluation
        except Exception:  # noqa: BLE001 - a flag must not stop the program that evaluates it
            self._warn(str(name), GENERAL, trace=True)
            return failed_evaluation(name, GENERAL)
        if evaluation.error_code is not None:
            return self._error(name, evaluation)
        return evaluation

    def _error(self, name: str, evaluation: Evaluation) -> Evaluation:
        code = evaluation.error_code
        if code == FLAG_NOT_FOUND and self._held.source == "defaults" and not self.is_offline:
            evaluation = failed_evaluation(name, NOT_READY)
        self._warn(name, str(evaluation.error_code))
        return evaluation

    def _warn(self, name: str, code: str, *, trace: bool = False) -> None:
        """Log a warning once, without the context."""
        text = "flag %s: %s; the default is used"
        self._warnings.warn((name, code), text, name, code, trace=trace)

    def kind(self, name: str) -> str | None:
        """Return boolean, string, integer, number or object; None where there is no such flag."""
        compiled = self._set.flags.get(name)
        return None if compiled is None else compiled.flag.type

    def metadata(self, name: str) -> dict[str, str | int | float | bool]:
        """Return what the flag's tags of the form `name=value` say."""
        compiled = self._set.flags.get(name)
        return {} if compiled is None else metadata_of(compiled.flag)

    def __contains__(self, name: object) -> bool:
        self.touch()
        return name in self._set.flags

    # What is held, and how old it is

    @property
    def state(self) -> FlagState:
        return self._held

    @property
    def source(self) -> Source:
        return self._held.source

    @property
    def revision(self) -> int:
        """Of the newest change in the set."""
        return self._held.revision

    @property
    def age(self) -> float:
        """The seconds since the service last confirmed what is held; infinite if it never did."""
        return self.age_of()

    @property
    def is_stale(self) -> bool:
        """Whether the service may have something newer."""
        return self.source != "service" or self.age > self.stale_after

    @property
    def last_error(self) -> PilothouseError | None:
        """Why the set, or a part of it, is not what the service has now; None if nothing is."""
        return self.error_of() or self._held.error

    # Changes

    def on_update(self, callback: OnUpdate) -> Callable[[], None]:
        """Call `callback` with the names of all flags whose results may have changed.

        Among them are those of which only a segment or a prerequisite changed. Returns a function
        that ends it. What a callback raises is logged.
        """
        return self._listeners.add(callback)

    def on_status(self, callback: OnStatus) -> Callable[[], None]:
        """Call `callback` with the error when a read fails, with None when one succeeds again."""
        return self._watchers.add(callback)

    def swap(self, held: FlagState) -> None:
        """Replace the state, and notify the listeners."""
        with _swapping.lock:
            before, self._held = self._held, held
            self._publish()
        if held.error is not None and str(held.error) != str(before.error):
            _log.warning("flags: %s", held.error)
        self._notify(changed_between(before, held))

    def notify_watchers(self) -> None:
        """Notify watchers that a read failed, or succeeded for the first time or again."""
        error = self.error_of()
        if self._watchers:
            self.deliver(lambda: self._watchers.call(error))

    def _notify(self, names: frozenset[str]) -> None:
        if names and self._listeners:
            self.deliver(lambda: self._listeners.call(names))

    # Overrides

    @property
    def overridden(self) -> frozenset[str]:
        return frozenset(self._overrides)

    def override(self, name: str, value: Any) -> None:
        """Serve `value` to all callers in this process, for tests.

        It is a boolean, string, integer, number, object or list. Nothing of it is reported.
        Raises ValueError for what no flag can be.
        """
        flag = override(name, value)
        with _swapping.lock:
            self._overrides = {**self._overrides, name: flag}
            self._publish()
        self._notify(frozenset({name}))

    def clear_overrides(self) -> None:
        with _swapping.lock:
            names, self._overrides = self.overridden, {}
            self._publish()
        self._notify(names)

    def _publish(self) -> None:
        if not self._overrides:
            self._set = self._held.flag_set()
        else:
            held = self._held.with_flags_read().flag_set()
            compiled = held.flags
            versions = {
                name: compiled[name].version for name in self._overrides if name in compiled
            }
            self._set = held.with_changes(
                (name, flag, versions.get(name, 0)) for name, flag in self._overrides.items()
            )
        self._warnings.clear()
