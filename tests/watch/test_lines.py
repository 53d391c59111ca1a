"""Tests of airflow_provider_clusterra.watch.tail: records that are the output, byte for byte."""

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_clusterra.watch.tail import GOES_ON, RECORD, UNFINISHED, Lines


def records(*pieces, seconds=0.0):
    """All records of some pieces, so many seconds after each other."""
    lines, found, now = Lines(), [], 0.0
    for piece in pieces:
        lines.feed(piece)
        found.append(lines.take(now))
        now += seconds
    while (record := lines.take(now, last=True)) is not None:
        found.append(record)
    return [record for record in found if record is not None]


def text_of(found):
    """What the records say together."""
    return "\n".join(found).replace(f"\n{GOES_ON}", "")


def test_many_lines_are_one_record():
    assert records(b"one\ntwo\nthree\n") == ["one\ntwo\nthree"]


def test_an_unfinished_line_is_held_back():
    assert records(b"one\ntw", b"o\nthree") == ["one", "two", "three"]


def test_an_unfinished_line_is_not_held_back_for_ever():
    lines = Lines()
    lines.feed(b"\r 10%")
    assert lines.take(0.0) is None
    assert lines.take(UNFINISHED) == "\r 10%"
    lines.feed(b"\r 20%\n")
    assert lines.take(UNFINISHED + 1) == f"{GOES_ON}\r 20%"


def test_a_letter_that_is_cut_in_two_is_one_letter():
    whole = "naïve 🧬\n".encode()

    assert records(*(whole[at : at + 1] for at in range(len(whole)))) == ["naïve 🧬"]


def test_bytes_that_are_no_letters_are_replaced_and_counted_no_less():
    assert records(b"a\xffb\n\xc3") == ["a�b", "�"]


def test_empty_lines_and_repeated_lines_stay():
    assert records(b"\n\na\na\n") == ["\n\na\na"]
    assert records(b"\n") == [""]


def test_a_record_is_never_too_long():
    found = records(b"x" * (2 * RECORD + 5) + b"\nend\n")

    assert max(map(len, found)) <= RECORD + len(GOES_ON)
    assert text_of(found) == "x" * (2 * RECORD + 5) + "\nend"


@given(
    st.lists(st.text("ab\n\r\u2028é🧬", max_size=8)),
    st.sampled_from([0.0, 1.0, UNFINISHED]),
)
def test_taken_together_the_records_are_the_output(texts, seconds):
    whole = "".join(texts)
    found = records(*(text.encode() for text in texts), seconds=seconds)

    assert text_of(found) == whole.removesuffix("\n")
