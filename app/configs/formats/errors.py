"""Errors of imported files and exported documents, as the service answers them."""

from app.errors import Conflict, Invalid, TooLarge
from pilothouse_core.config_files import errors


class BadFile(Invalid):
    """The reason may name keys and lines of the file, never a value: it may be a password."""

    code = "bad_file"

    def __init__(self, reason: str, line: int | None = None, column: int | None = None) -> None:
        place = {"line": line, "column": column}
        super().__init__(
            str(errors.BadFile(reason, line, column)),
            **{name: number for name, number in place.items() if number is not None},
        )


class FileTooComplex(TooLarge):
    """The aliases of a short file expand to too much."""

    code = "file_too_complex"


class NameClash(Conflict):
    """Two keys meet in one name of a dotenv file."""

    code = "name_clash"

    def __init__(self, clash: errors.NameClash) -> None:
        super().__init__(str(clash), keys=[clash.first, clash.second], name=clash.name)


class NotExpressible(Conflict):
    """Values that readers of a dotenv file read differently, however they are written."""

    code = "not_expressible"

    def __init__(self, refused: errors.NotExpressible) -> None:
        super().__init__(str(refused), keys=refused.keys)
