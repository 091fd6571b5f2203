"""Names of variables as paths: the part after a prefix, split at its underscores."""

from typing import Literal

from pilothouse.reload.errors import BadConfig


def path_of_variable(variable: str, rest: str, separator: Literal["_", "__"] | None = None) -> str:
    """Return the dotted path of `rest`, in lower case.

    Without a given separator it is `__` if `rest` contains one, else `_`. Raises BadConfig, which
    names `variable`, for an empty name.
    """
    chosen = separator or ("__" if "__" in rest else "_")
    names = rest.removeprefix(chosen).removeprefix("_").lower().split(chosen)
    if not all(names):
        raise BadConfig(f"{variable} has an empty name between its underscores")
    return ".".join(names)
