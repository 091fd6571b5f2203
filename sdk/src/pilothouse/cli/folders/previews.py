"""What the service says of planned changes before any is made."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pilothouse.cli.api import Api
from pilothouse.cli.buckets import bucket_sentences
from pilothouse.cli.exit_codes import ExitCode, Failure
from pilothouse.cli.folders.application import (
    DENIED,
    NEEDS_PROPOSAL,
    send_definition,
    send_layer,
)
from pilothouse.cli.folders.entries import Content, Entry, Kind
from pilothouse.cli.folders.folder import FolderFiles, failure_at
from pilothouse.cli.folders.plan import Change

_FATAL = frozenset({ExitCode.UNAVAILABLE})
# Other changes of the same plan that may turn a refusal into a success.
_DEPENDS_ON: Mapping[Kind, frozenset[Kind]] = {
    "config": frozenset({"schema"}),
    "schema": frozenset({"config", "schema"}),
    "flag": frozenset({"flag", "segment"}),
    "segment": frozenset({"flag", "segment"}),
    "template": frozenset({"schema"}),
    "policy": frozenset(),
}


@dataclass(frozen=True)
class Preview:
    """`is_unchanged`: the write would create no version. `needs_proposal`: a policy refuses it.

    `may_pass`: it is refused as things are, and other changes of the plan may change that.
    """

    answer: Content
    refusal: Failure | None = None
    may_pass: bool = False

    @property
    def is_unchanged(self) -> bool:
        return self.answer.get("changed") is False

    @property
    def needs_proposal(self) -> bool:
        return self.refusal is not None and self.refusal.problem.get("code") == NEEDS_PROPOSAL

    @property
    def is_denied(self) -> bool:
        return self.refusal is not None and self.refusal.problem.get("code") == DENIED

    @property
    def is_final(self) -> bool:
        return self.refusal is not None and not (
            self.may_pass or self.needs_proposal or self.is_denied
        )

    @property
    def remarks(self) -> list[str]:
        """Sentences for people: why it would be refused, how many buckets move, warnings."""
        remarks = []
        if self.needs_proposal:
            remarks.append("needs a proposal")
        elif self.is_denied:
            remarks.append("not judged, as you may not write it")
        elif self.refusal is not None:
            state = "may be refused" if self.may_pass else "is refused"
            remarks.append(f"{state}: {self.refusal.sentence}")
        remarks += bucket_sentences(self.answer.get("buckets"))
        remarks += [str(each.get("detail", "")) for each in self.answer.get("warnings") or ()]
        return remarks


def drop_unchanged(api: Api, changes: Sequence[Change]) -> list[Change]:
    """Return changes without those of which the service says that they would change nothing.

    It fills in what a file leaves out, such as the ranges of a rollout. Raises Failure.
    """
    return [change for change in changes if not _changes_nothing(api, change)]


def _changes_nothing(api: Api, change: Change) -> bool:
    if change.action != "changed" or change.entry.kind == "config" or not _has_preview(change):
        return False
    try:
        return send_definition(api, change, "", dry_run=True).get("changed") is False
    except Failure as refusal:
        if refusal.exit_code in _FATAL:
            raise
        return False  # the preview or the write says why


def preview_changes(
    api: Api, changes: Sequence[Change], files: FolderFiles
) -> dict[Entry, Preview]:
    """Ask the service about each change, as if it were the only one; raises Failure."""
    counts = Counter(change.entry.kind for change in changes)
    return {
        change.entry: _preview(api, change, files, counts - Counter([change.entry.kind]))
        for change in changes
        if _has_preview(change)
    }


def _has_preview(change: Change) -> bool:
    kind = change.entry.kind
    if kind in {"config", "segment"}:
        return True
    if kind == "flag":
        return not change.was_archived and not change.is_archived
    return kind in {"schema", "policy"} and not change.is_deletion


def _preview(api: Api, change: Change, files: FolderFiles, others: Counter[Kind]) -> Preview:
    entry = change.entry
    try:
        if entry.kind == "config":
            return Preview(send_layer(api, change, "", dry_run=True))
        return Preview(send_definition(api, change, "", dry_run=True))
    except Failure as refusal:
        if refusal.exit_code in _FATAL:
            raise
        placed = failure_at(files.files[entry], refusal) if entry in files.files else refusal
        return Preview({}, placed, may_pass=bool(_DEPENDS_ON[entry.kind] & others.keys()))
