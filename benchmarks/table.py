"""Figures as a Markdown table, with the machine they were measured on."""

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Measured(Protocol):
    """Answers a second, and latencies in seconds."""

    @property
    def rate(self) -> float: ...

    @property
    def p50(self) -> float: ...

    @property
    def p99(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One measured case; `bare` is the same thing without us, measured in the same run."""

    name: str
    figures: Measured
    bare: Measured | None


def table(rows: Iterable[Row]) -> str:
    lines = [
        "| case | per second | p50 ms | p99 ms | p50 / bare | rate / bare |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        ratios = " | "
        if row.bare is not None:
            ratios = (
                f"{row.figures.p50 / row.bare.p50:.2f} | {row.figures.rate / row.bare.rate:.2f}"
            )
        lines.append(
            f"| {row.name} | {row.figures.rate:,.0f} | {row.figures.p50 * 1000:.2f} "
            f"| {row.figures.p99 * 1000:.2f} | {ratios} |"
        )
    return "\n".join(lines)


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
