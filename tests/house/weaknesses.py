"""`python -m tests.house.weaknesses`: known weaknesses in what is pinned, but for those waived."""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WAIVERS = ROOT / "requirements" / "waivers.json"
LOCKS = ("requirements/app.txt", "requirements/dev.txt")
_LONGEST_DAYS = 90


def waivers() -> Sequence[Mapping[str, str]]:
    """Read what is waived: `id`, `reason`, `until` (a date) each."""
    found: Sequence[Mapping[str, str]] = json.loads(WAIVERS.read_text(encoding="utf-8"))
    return found


def flaws(found: Iterable[Mapping[str, Any]], today: date) -> list[str]:
    """Tell which waivers have no reason, no date, or one that is past or too far away."""
    flaws = []
    for waiver in found:
        name = waiver.get("id", "?")
        if waiver.keys() != {"id", "reason", "until"} or not waiver["reason"].strip():
            flaws.append(f"{name}: id, reason and until")
            continue
        left = (date.fromisoformat(waiver["until"]) - today).days
        if not 0 <= left <= _LONGEST_DAYS:
            flaws.append(f"{name}: {left} days are left, of at most {_LONGEST_DAYS}")
    return flaws


def main() -> int:
    waived = [word for waiver in waivers() for word in ("--ignore-vuln", waiver["id"])]
    audit = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", *waived]
    return max(
        subprocess.run([*audit, "-r", lock], cwd=ROOT, check=False).returncode for lock in LOCKS
    )


if __name__ == "__main__":
    sys.exit(main())
