"""Command `pilothouse flags stale`: flags that may be removed."""

from typing import Annotated, Any, Literal

import typer

from pilothouse.cli.commands import Session
from pilothouse.cli.values import display_text

_REASONS = {"one_value": "serves one value", "not_evaluated": "not evaluated", "expired": "expired"}


def list_stale(
    session: Session,
    *,
    days: Annotated[int, typer.Option(min=0, help="Only flags stale for so many days.")] = 30,
    owner: Annotated[
        str | None, typer.Option(help="Only flags of this owner; '' for those without one.")
    ] = None,
    reason: Annotated[
        Literal["one_value", "not_evaluated", "expired"] | None,
        typer.Option(help="Only flags that are stale for this reason."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Of every environment that the token may read.")
    ] = False,
) -> None:
    """List flags that may be removed: owner, age, and why they are stale since when."""
    environment = None if every else session.environment
    query: dict[str, Any] = {"environment": environment, "owner": owner, "reason": reason}
    page = session.api.page("/api/v1/stale-flags", days=days, **query)
    if session.output.as_json:
        return session.output.document(page)
    rows = [
        (
            flag["name"],
            flag["environment"],
            flag["owner"],
            flag["age_days"],
            "; ".join(map(_reason_text, flag["reasons"])),
        )
        for flag in page["items"]
    ]
    session.output.table(("name", "environment", "owner", "age_days", "why"), rows, ("cyan",))
    return None


def _reason_text(one: dict[str, Any]) -> str:
    served = f" ({display_text(one['variant'])})" if one["reason"] == "one_value" else ""
    return f"{_REASONS[one['reason']]}{served} for {one['days']} d"
