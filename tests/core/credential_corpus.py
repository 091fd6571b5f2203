r"""The labelled corpus of plain values: what is a credential, and what only looks like one.

A line of `tests/data/credentials/*.tsv` is `+` (a credential) or `-`, the key and the value. Random
parts are not in the files, as other scanners would take them for leaks: `«hex 32»` is drawn here,
always the same, and `\n` is a new line.
"""

import random
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "data" / "credentials"
ALPHABETS = {
    "alnum": string.ascii_letters + string.digits,
    "lower": string.ascii_lowercase + string.digits,
    "upper": string.ascii_uppercase + string.digits,
    "digits": string.digits,
    "hex": "0123456789abcdef",
    "HEX": "0123456789ABCDEF",
    "base32": string.ascii_uppercase + "234567",
    "base64": string.ascii_letters + string.digits + "+/",
}
_RANDOM = re.compile(r"«(\w+) (\d+)»")


@dataclass(frozen=True, slots=True)
class Line:
    key: str
    value: str
    is_credential: bool


def lines(name: str, seed: int = 0) -> Iterator[Line]:
    """Read one file of the corpus; another seed draws other random parts."""
    drawn = random.Random(f"{name}{seed}")  # what it draws opens nothing

    def random_part(found: re.Match[str]) -> str:
        return "".join(drawn.choices(ALPHABETS[found[1]], k=int(found[2])))

    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            label, key, value = line.split("\t")
            filled = _RANDOM.sub(random_part, value)
            text = filled.replace("\\\\n", "\0").replace("\\n", "\n").replace("\0", "\\n")
            yield Line(key, text, is_credential=label == "+")
