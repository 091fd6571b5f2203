"""What any ReaderStore must do. Runs once per adapter, with no exceptions for any."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from app.proposals.releases.errors import ReleasesUnavailable
from app.proposals.releases.readers.model import Place, Read, Reader, Report, ReportCounts
from tests.contracts.releasing import ORIGIN, RIGS, Rig, move, new

POD = Place("production", "billing", "pod-1")
READ = Read('"3-abc"', 7)
ADOPTED = Report("adopted", release="r-1", arm="candidate")
REFUSED = Report("refused", "ValueError", "r-1", "candidate")


@pytest.fixture(params=RIGS)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await request.param(request, stack)


async def only(rig: Rig) -> Reader:
    (reader,) = await rig.readers_elsewhere.page(None, None, None, 10)
    return reader


async def test_what_an_instance_has_read_last_is_kept(rig: Rig) -> None:
    await rig.readers.record_reads({POD: READ})
    await rig.readers.record_reads({POD: Read('"4-abc"', 9, "r-1", "candidate")})

    reader = await only(rig)

    assert reader.read_at is not None
    assert reader == Reader(POD, '"4-abc"', 9, "r-1", "candidate", reader.read_at, None, "", None)


async def test_no_reads_are_none(rig: Rig) -> None:
    await rig.readers.record_reads({})

    assert await rig.readers.page(None, None, None, 10) == []


async def test_a_report_is_kept_beside_what_was_read(rig: Rig) -> None:
    await rig.readers.record_reads({POD: READ})
    await rig.readers.record_report(POD, Report("refused", "ValueError"))

    reader = await only(rig)

    assert (reader.etag, reader.revision, reader.outcome) == (READ.etag, 7, "refused")
    assert (reader.code, reader.release, reader.arm) == ("ValueError", None, None)
    assert reader.reported_at is not None
    await rig.readers.record_reads({POD: replace(READ, revision=8)})
    after = await only(rig)
    assert (after.revision, after.outcome, after.reported_at) == (8, "refused", reader.reported_at)


async def test_a_report_comes_before_any_read(rig: Rig) -> None:
    await rig.readers.record_report(POD, ADOPTED)

    reader = await only(rig)

    assert (reader.etag, reader.read_at) == ("", None)
    assert (reader.outcome, reader.release, reader.arm) == ("adopted", "r-1", "candidate")


async def test_reports_of_the_candidate_are_counted_once_an_instance(rig: Rig) -> None:
    for number in range(4):
        pod = replace(POD, instance=f"pod-{number}")
        await rig.readers.record_report(pod, ADOPTED)
        await rig.readers.record_report(pod, ADOPTED if number else REFUSED)
    await rig.readers.record_report(
        replace(POD, instance="pod-9"), Report("refused", "x", "r-1", "stable")
    )
    await rig.readers.record_report(replace(POD, instance="pod-8"), Report("refused"))

    counts = await rig.readers_elsewhere.report_counts(["r-1", "r-2"])

    assert counts == {"r-1": ReportCounts(adopted=3, refused=1)}


async def test_a_refusal_stays_whatever_is_said_later(rig: Rig) -> None:
    await rig.readers.record_report(POD, REFUSED)
    await rig.readers.record_report(POD, ADOPTED)

    assert await rig.readers.report_counts(["r-1"]) == {"r-1": ReportCounts(0, 1)}
    assert (await only(rig)).outcome == "adopted"


async def test_many_write_at_once(rig: Rig) -> None:
    batch = {replace(POD, instance=f"pod-{number}"): READ for number in range(100)}

    await asyncio.gather(
        *(
            (rig.readers, rig.readers_elsewhere)[number % 2].record_reads(
                dict(list(batch.items())[:: 1 if number % 4 else -1])
            )
            for number in range(8)
        ),
        *(rig.readers.record_report(pod, ADOPTED) for pod in list(batch)[:10]),
    )

    assert len(await rig.readers.page(None, None, None, 1000)) == 100


async def test_a_list_is_filtered_and_read_page_by_page(rig: Rig) -> None:
    places = [
        Place(environment, service, f"pod-{number}")
        for environment in ("production", "staging")
        for service in ("billing", "payments")
        for number in range(3)
    ]
    await rig.readers.record_reads(dict.fromkeys(reversed(places), READ))

    async def page_of(environment: str | None, service: str | None) -> list[Place]:
        readers, after = list[Reader](), None
        while page := await rig.readers.page(environment, service, after, 2):
            readers += page
            last = page[-1].place
            after = (last.environment, last.service, last.instance)
        return [reader.place for reader in readers]

    assert await page_of(None, None) == places
    assert await page_of("production", None) == places[:6]
    assert await page_of("staging", "billing") == places[6:9]
    assert await page_of(None, "nothing") == []


async def test_readers_are_forgotten_some_time_after_they_were_heard_of(rig: Rig) -> None:
    await rig.readers.record_reads({POD: READ})
    await rig.age(3600)
    heard = replace(POD, instance="pod-2")
    await rig.readers.record_reads({heard: READ})

    assert await rig.readers.forget(1800) == 1

    assert (await only(rig)).place == heard


async def test_reports_are_forgotten_some_time_after_their_release(rig: Rig) -> None:
    release = await rig.store.start(new(), ORIGIN)
    await rig.readers.record_report(POD, REFUSED)
    await rig.age(3600)
    await rig.readers.forget(1800)
    assert await rig.readers.report_counts(["r-1"]) == {"r-1": ReportCounts(0, 1)}

    await rig.store.move(move(release, "aborted"), ORIGIN)
    await rig.age(3600)
    await rig.readers.forget(1800)

    assert await rig.readers.report_counts(["r-1"]) == {}


async def test_a_store_that_is_cut_off_fails_in_time(rig: Rig) -> None:
    await rig.cut()

    with pytest.raises(ReleasesUnavailable):
        await rig.readers.record_reads({POD: READ})
