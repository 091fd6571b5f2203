"""What can be wrong with looking for an instance."""

from pilothouse.errors import PilothouseError, Unavailable


class NoInstance(PilothouseError):
    """Nobody is registered, as far as is known, who could be used."""

    code = "no_instance"

    def __init__(self, service: str) -> None:
        super().__init__(f"{service} has no instance to send anybody to")
        self.service = service


class NothingKnown(Unavailable):
    """The service was asked for the instances for the first time, and has not answered yet."""

    code = "nothing_known"

    def __init__(self, service: str, reason: str) -> None:
        super().__init__(f"nothing is known of {service} yet: {reason}")
