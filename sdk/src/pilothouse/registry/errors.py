"""What can be wrong with looking for an instance."""

from pilothouse.errors import PilothouseError, Unavailable


class NoInstance(PilothouseError):
    """No usable instance is known."""

    code = "no_instance"

    def __init__(self, service: str, environment: str | None = None) -> None:
        of = "" if environment is None else f" of the environment {environment}"
        super().__init__(f"{service} has no usable instance{of}")
        self.service = service


class NothingKnown(Unavailable):
    """The service was asked for the instances for the first time, and has not answered yet."""

    code = "nothing_known"

    def __init__(self, service: str, reason: str) -> None:
        super().__init__(f"the instances of {service} are not known yet: {reason}")
