"""The line and the column of each value in a JSON text."""

import json
import re
from bisect import bisect_right

Path = tuple[str | int, ...]
Position = tuple[int, int]  # line and column, from 1

_TOKEN = re.compile(
    r'(?P<text>"[^"\\]*(?:\\.[^"\\]*)*")(?P<colon>[ \t\n\r]*:)?'
    r'|(?P<open>[\[{])|(?P<close>[\]}])|(?P<comma>,)|(?P<word>[^\s"\[\]{},:]+)',
    re.DOTALL,
)


def json_positions(text: str) -> dict[Path, Position]:
    """Return where each member, at its name, and each item begins.

    The text is one that `strict_json.loads` accepts.
    """
    positions: dict[Path, Position] = {}
    line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
    outer: list[str | int] = []  # the last member or index in each open object and array
    for token in _TOKEN.finditer(text):
        if token["close"]:
            outer.pop()
        elif token["comma"]:
            last = outer[-1]
            outer[-1] = last + 1 if isinstance(last, int) else ""
        else:
            if token["colon"]:
                outer[-1] = json.loads(token["text"])
            is_item = bool(outer) and isinstance(outer[-1], int)
            if token["colon"] or is_item:
                line = bisect_right(line_starts, token.start())
                column = token.start() - line_starts[line - 1] + 1
                positions.setdefault(tuple(outer), (line, column))
            if token["open"]:
                outer.append("" if token["open"] == "{" else 0)
    return positions
