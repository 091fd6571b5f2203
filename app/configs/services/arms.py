"""The arm of the instance that reads, and the record of what it has read."""

from dataclasses import replace

from app.access.model import Caller, Right
from app.configs.model import DocumentId
from app.configs.services.keys import KeyService
from app.configs.services.read_options import ReadOptions


def with_arm(keys: KeyService, document: DocumentId, options: ReadOptions) -> ReadOptions:
    """Return the options with the arm that their instance has now.

    What one request answers is of one arm: its tag too. Raises ReleasesUnavailable.
    """
    if options.instance is None:
        return options
    return replace(options, arm=keys.overlaid.candidates.arm(document, options.instance))


def record_read(
    keys: KeyService,
    document: DocumentId,
    options: ReadOptions,
    caller: Caller,
    tag: str,
    revision: int,
) -> None:
    """Note what the instance in the options has read; not what others read in its name."""
    may_report = caller.may(Right.REPORT_RELEASES, document.environment, document.service)
    if may_report and options.instance is not None:
        keys.overlaid.candidates.record_read(document, options.instance, tag, revision, options.arm)
