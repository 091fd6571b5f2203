"""How soon those who watch a document were shown what was acknowledged."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

Moments = list[tuple[float, int]]  # when which version was shown, or acknowledged
NEVER = float("inf")


def delays(lines: Iterable[str]) -> Mapping[str, Sequence[float]]:
    """Tell, by who watches, how many seconds late each acknowledged version was shown.

    Counted is from the acknowledgement or, if what was lost came back in between, from then on.
    """
    shown: defaultdict[str, Moments] = defaultdict(list)
    acknowledged: Moments = []
    recovered: list[float] = []
    for line in lines:
        deed = json.loads(line)
        match deed["did"]:
            case "watched":
                shown[deed["who"]] = []
            case "shown":
                shown[deed["who"]].append((deed["at"], deed["version"]))
            case "acknowledged":
                acknowledged.append((deed["at"], deed["version"]))
            case "recovered":
                recovered.append(deed["at"])
    return {
        who: [_delay(moments, at, version, recovered) for at, version in acknowledged]
        for who, moments in shown.items()
    }


def _delay(moments: Moments, acknowledged: float, version: int, recovered: list[float]) -> float:
    first = min((at for at, shown in moments if shown >= version), default=NEVER)
    since = max([acknowledged, *(at for at in recovered if at <= first)])
    return max(0.0, first - since)
