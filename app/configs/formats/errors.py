"""What can be wrong with a file that is imported, or with a document that is exported."""

from app.errors import Conflict, Invalid, TooLarge
from pilothouse_core.trees import shortened


class BadFile(Invalid):
    """The reason may name keys and lines of the file, never a value: it may be a password."""

    code = "bad_file"

    def __init__(self, reason: str, line: int | None = None) -> None:
        if line is None:
            super().__init__(reason)
        else:
            super().__init__(f"line {line}: {reason}", line=line)


class FileTooComplex(TooLarge):
    """The file is short and what its aliases expand to is not."""

    code = "file_too_complex"


class NameClash(Conflict):
    code = "name_clash"

    def __init__(self, first: str, second: str, name: str) -> None:
        super().__init__(
            f"the keys {first!r} and {second!r} would both be called {name!r}",
            keys=[first, second],
            name=name,
        )


def shown(name: str) -> str:
    """A name as a message may hold it: quoted, and short whatever the file holds."""
    return repr(shortened(name))
