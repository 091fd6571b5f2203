import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.errors import BadAnswer
from pilothouse.events import Event, EventParser

# Pieces of which streams are made, whole and broken.
PIECES = [b"data: a\n", b"data:b\r\n", b"data: \xc3\xa9\r", b"event: flag.changed\n", b"id: 7\n"]
PIECES += [
    b"\n",
    b"\r\n",
    b"\r",
    b":\n\n",
    b"retry: 900\n",
    b"id: \x00\n",
    b"data",
    b": x",
    b"\xff",
]
PIECES += [b"\xef\xbb\xbf", b"nonsense\n", b"data:\n"]
STREAMS = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)
WORDS = st.text(
    st.characters(blacklist_characters="\r\n\0", blacklist_categories=["Cs"]), min_size=1
)
EVENTS = st.builds(
    Event,
    WORDS.filter(lambda kind: not kind.startswith(" ")),
    st.lists(WORDS | st.just(""), min_size=1).map("\n".join),
    WORDS.filter(lambda text: not text.startswith(" ")),
)


def parse_in_pieces(stream: bytes, cuts: list[int]) -> tuple[list[Event], str, int | None]:
    parser, events, start = EventParser(), [], 0
    for cut in [*sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]:
        events += parser.feed(stream[start:cut])
        start = cut
    return events, parser.last_event_id, parser.retry


@given(STREAMS, st.lists(st.integers(0, 300), max_size=20))
def test_events_are_the_same_however_the_stream_is_cut(stream: bytes, cuts: list[int]) -> None:
    assert parse_in_pieces(stream, cuts) == parse_in_pieces(stream, [])


@given(st.lists(EVENTS, max_size=5), st.sampled_from(["\n", "\r", "\r\n"]), st.integers(1, 7))
def test_what_was_written_is_read(events: list[Event], end: str, size: int) -> None:
    lines = [
        [
            f"id: {event.id}",
            f"event: {event.kind}",
            *(f"data: {part}" for part in event.data.split("\n")),
        ]
        for event in events
    ]
    stream = "".join(end.join([*line, "", ""]) for line in lines).encode()

    assert parse_in_pieces(stream, list(range(0, len(stream), size)))[0] == events


def test_an_id_alone_is_remembered_and_a_comment_is_nothing() -> None:
    parser = EventParser()

    assert parser.feed(b": beat\n\nid: 41\n\nretry: 700\nevent: x\n\n") == []
    assert (parser.last_event_id, parser.retry) == ("41", 700)


def test_an_event_without_end_is_refused() -> None:
    with pytest.raises(BadAnswer, match="1 MiB"):
        parse_in_pieces(b"data: " + b"x" * 1_100_000, list(range(0, 1_100_000, 40_000)))
