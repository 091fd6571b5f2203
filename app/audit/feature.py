"""Builds the audit's part of the service."""

from dataclasses import dataclass

from app.access.root_secret import derive_key
from app.audit.aggregation import EventAggregator
from app.audit.fingerprints import PURPOSE, Fingerprints
from app.audit.head_signing import SIGN_SECONDS, HeadSigner
from app.audit.keys import SigningKey
from app.audit.port import AuditLog
from app.audit.recorder import AuditRecorder
from app.audit.router import router
from app.changes.events.port import EventPublisher
from app.changes.log.port import Maintenance
from app.changes.turns import in_turns
from app.feature import Feature, Routes

AUDIT_ROUTES = Routes(
    routers=(router,),
    problem_codes=((r"GET /api/v1/audit", "audit_unavailable bad_cursor bad_moment"),),
)


@dataclass(frozen=True, slots=True)
class Audit:
    fingerprints: Fingerprints
    feature: Feature


def build_audit(
    maintenance: Maintenance,
    log: AuditLog,
    signer: SigningKey,
    publisher: EventPublisher | None,
    root_secret: bytes,
) -> Audit:
    recorder = AuditRecorder(log)
    tally = EventAggregator(recorder)
    head_signer = HeadSigner(log, signer, publisher)

    async def close() -> None:
        tally.flush()  # first: it hands its events to the recorder
        await recorder.flush()

    feature = Feature(
        state={"audit": log, "recorder": recorder, "tally": tally},
        tasks={
            "record": recorder.run,
            "tally": tally.run,
            "seal": in_turns(maintenance, "seal", SIGN_SECONDS, head_signer.sign_head),
        },
        close=close,
    )
    return Audit(Fingerprints(derive_key(root_secret, PURPOSE)), feature)
