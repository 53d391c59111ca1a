"""Tests of airflow_provider_clusterra.api.sse: the specification's examples, and every byte kept."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_clusterra.api.errors import ProtocolError
from airflow_provider_clusterra.api.sse import Decoder, Event
from clusterra_server.outputs import event as framed


def decode(*chunks):
    decoder = Decoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events + decoder.close()


def data(*chunks):
    return [event.data for event in decode(*chunks)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [b"YHOO\n+2\n10"]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n"
            b"data:  third event\n\n",
            [b"first event", b"second event", b" third event"],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [b"", b"\n", b""]),
        (b"data:test\n\ndata: test\n\n", [b"test", b"test"]),
    ],
    ids=["stocks", "comments and ids", "empty data", "one space"],
)
def test_the_examples_of_the_specification_are_read_as_it_says(stream, expected):
    """The last ``data:`` of the third example is kept: the specification would drop it."""
    assert data(stream) == expected


def test_an_event_has_a_kind():
    assert decode(b"event: error\ndata: No such file\n\n") == [Event(b"No such file", "error")]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: 10%\r20%\r\n\n", [b"10%\r20%\r"]),
        (b"data: a\r\ndata: b\r\n\n", [b"a\r\nb\r"]),
        (b"data: \r\n\n", [b"\r"]),
        (b"data: \xc3\n\ndata: \xa9\n\n", [b"\xc3", b"\xa9"]),
        (b"data: a\x0bb\xe2\x80\xa8c\x85d\n\n", [b"a\x0bb\xe2\x80\xa8c\x85d"]),
        (b"data: \x00\xff\n\n", [b"\x00\xff"]),
    ],
    ids=["progress bar", "CRLF file", "lone CR", "split UTF-8", "other line ends", "binary"],
)
def test_content_is_kept_to_the_byte(stream, expected):
    assert data(stream) == expected


def test_a_stream_framed_with_crlf_shows_it_by_its_blank_line():
    stream = b"data: a\r\ndata: b\r\n\r\ndata: c\rd\r\r\n\r\n: ping\r\n\r\ndata: e\r\n"

    assert data(stream) == [b"a\nb", b"c\rd\r", b"e"]


@pytest.mark.parametrize(
    "stream",
    [
        b"\xef\xbb\xbfdata: a\n\n",
        b"\n\ndata: a\n\n",
        b"\r\ndata: a\r\n\r\n",
        b"data: a\n\n\n\n",
        b": keep-alive\n\n:\n\ndata: a\n\n",
        b"retry: 10\nid: 3\ndata: a\nunknown: x\n\n",
        b"data: a\n",
        b"data: a",
    ],
    ids=repr,
)
def test_what_is_around_an_event_is_not_part_of_it(stream):
    assert data(stream) == [b"a"]


@pytest.mark.parametrize(
    "stream", [b"", b"\xef\xbb", b"\xef\xbb\xbf", b"\n", b": ping\n\n", b"id: 1\n\n"]
)
def test_a_stream_without_data_has_no_event(stream):
    assert data(stream) == []


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (
            b"data: a\ndata: \ndata: b\n\n: ping\n\ndata: c\nid: 1\n\ndata: d\n\n",
            [b"a\n\nb", b"c", b"d"],
        ),
        (b"data: a\nda\n\ndata: ta: b\n\ndata: c\n\n", [b"a", b"ta: b", b"c"]),
        (b"data: a\n\n\ndata: b\n\n\n\ndata: c\n\n\n", [b"a", b"b", b"c"]),
        (b"data:a\ndata: b\n\ndata: data: c\n\n", [b"a\nb", b"data: c"]),
        (b"data: a\n\nevent: error\ndata: b\n\ndata: c\n\n", [b"a", b"b", b"c"]),
    ],
    ids=["other lines", "ends like a beginning", "more blank lines", "without a space", "kinds"],
)
def test_events_that_come_together_are_read_as_if_each_came_alone(stream, expected):
    byte_by_byte = (stream[at : at + 1] for at in range(len(stream)))

    assert data(stream) == expected
    assert decode(*byte_by_byte) == decode(stream)


def test_an_event_of_ten_megabytes_is_read():
    line = b"x" * 10_000_000
    stream = b"data: " + line + b"\n\n"

    assert data(*(stream[at : at + 4096] for at in range(0, len(stream), 4096))) == [line]


@given(st.binary(), st.lists(st.integers(0, 200), max_size=8))
def test_any_bytes_cut_anywhere_give_the_same(stream, cuts):
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    chunks = [stream[begin:end] for begin, end in pairwise(ends)]

    assert decode(*chunks) == decode(stream)


pieces = st.lists(
    st.binary(min_size=1) | st.text(alphabet="\r\n: data\ufeff", min_size=1).map(str.encode)
)


@given(pieces, st.integers(1, 50))
def test_any_output_arrives_as_it_was_sent(sent, size):
    stream = b"".join(framed(piece) for piece in sent)
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]

    assert data(*chunks) == sent


@given(st.lists(st.text(alphabet="ab\r:", min_size=1).map(str.encode)), st.integers(1, 50))
def test_any_lines_framed_with_crlf_arrive_as_they_were_sent(sent, size):
    stream = b"".join(b"data: " + line + b"\r\n\r\n" for line in sent)
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]

    assert data(*chunks) == sent


@pytest.mark.parametrize("chunk", [b"x" * 10, b"data: x\n"], ids=repr)
def test_an_event_has_a_cap(chunk):
    decoder = Decoder(largest=100)
    decoder.feed(b"data: " + b"y" * 90 + b"\n\n")
    fitting = chunk * (100 // len(chunk))
    decoder.feed(fitting)
    with pytest.raises(ProtocolError, match="more than 100 bytes"):
        decoder.feed(chunk)
