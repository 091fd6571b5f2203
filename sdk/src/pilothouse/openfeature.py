"""A provider for OpenFeature's SDK: flags of a client, evaluated here. The extra `openfeature`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from pilothouse.copies import deep_copy
from pilothouse.errors import PilothouseError
from pilothouse.flags import Flags
from pilothouse.flags.details import MESSAGES
from pilothouse_core.evaluation import TARGETING_KEY_MISSING, Evaluation

Value = TypeVar("Value")
Object = Sequence[FlagValueType] | Mapping[str, FlagValueType]


class HasFlags(Protocol):
    """A `Pilothouse`, an `AsyncPilothouse`, or a fake one."""

    @property
    def flags(self) -> Flags: ...


class PilothouseProvider(AbstractProvider):
    """Answers as the service's OFREP does, without asking it.

    The targeting key fills the attributes `user_id` and `targetingKey`. The program
    closes the client; a shutdown of the provider only ends its events.
    """

    def __init__(self, client: HasFlags) -> None:
        super().__init__()
        self._flags = client.flags
        self._error: PilothouseError | None = None  # the last one reported
        self._ends: list[Callable[[], None]] = []

    def get_metadata(self) -> Metadata:
        return Metadata(name="pilothouse")

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002
        """Emit changes from now on; raises ProviderNotReadyError while there are no flags."""
        self.shutdown()
        self._error = None
        self._ends = [
            self._flags.on_update(self._emit_changes),
            self._flags.on_status(self._emit_status),
        ]
        if not self._is_ready:
            raise ProviderNotReadyError(str(self._flags.last_error or "no flags have been read"))

    def shutdown(self) -> None:
        while self._ends:
            self._ends.pop()()

    @property
    def _is_ready(self) -> bool:
        return self._flags.is_offline or self._flags.source != "defaults"

    def _emit_changes(self, names: frozenset[str]) -> None:
        self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=sorted(names)))

    def _emit_status(self, error: PilothouseError | None) -> None:
        """Emit only the first failure; after `initialize` the SDK regards the provider as ready."""
        before, self._error = self._error, error
        if error is None:
            self.emit_provider_ready(ProviderEventDetails())
        elif before is None and self._is_ready:
            self.emit_provider_stale(ProviderEventDetails(message=str(error)))

    # The five types

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,  # noqa: FBT001 - the SDK's signature
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        return self._resolve("boolean", flag_key, default_value, evaluation_context)

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        return self._resolve("string", flag_key, default_value, evaluation_context)

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        return self._resolve("integer", flag_key, default_value, evaluation_context)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        return self._resolve("number", flag_key, default_value, evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Object,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Object]:
        return self._resolve("object", flag_key, default_value, evaluation_context)

    def _resolve(
        self, kind: str, name: str, default: Value, context: EvaluationContext | None
    ) -> FlagResolutionDetails[Value]:
        attributes: dict[str, Any] = dict(context.attributes) if context is not None else {}
        key = context.targeting_key if context is not None else None
        evaluation = self._flags.evaluate(name, key, attributes)
        code = evaluation.error_code or (
            TARGETING_KEY_MISSING if evaluation.lacks_targeting_key else None
        )
        if code is not None:
            return _error_details(default, code, MESSAGES.get(code, code))
        held_kind = self._flags.kind(name)
        if held_kind != kind:
            return _error_details(default, "TYPE_MISMATCH", f"the flag is of type {held_kind}")
        value: Any = default if evaluation.variant is None else deep_copy(evaluation.value)
        return FlagResolutionDetails(
            value,
            reason=Reason(evaluation.reason),
            variant=evaluation.variant,
            flag_metadata=self._metadata(evaluation),
        )

    def _metadata(self, evaluation: Evaluation) -> dict[str, bool | int | float | str]:
        metadata: dict[str, bool | int | float | str] = {
            **self._flags.metadata(evaluation.flag),
            "flagVersion": evaluation.version,
            "revision": self._flags.revision,
        }
        if evaluation.rule_id is not None:
            metadata["ruleId"] = evaluation.rule_id
        if evaluation.bucket is not None:
            metadata["bucket"] = evaluation.bucket
        return metadata


def _error_details(default: Value, code: str, message: str) -> FlagResolutionDetails[Value]:
    return FlagResolutionDetails(
        default, error_code=ErrorCode(code), error_message=message, reason=Reason.ERROR
    )
