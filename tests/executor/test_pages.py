"""An image without superseded pages restores to the same memory, keeps all else in its place, and is never a guess."""

from __future__ import annotations

import hashlib
import struct
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.pages import Copy, Declined, outline
from executor.stream import BrokenImage, walk
from tests.executor.streams import (
    BROKEN,
    HEAD,
    WITHOUT_DATA,
    XALLOC,
    XTAB,
    Item,
    Other,
    Page,
    batch,
    flat,
    image,
    restored,
)
from tests.executor.test_stream import record


def compacted(data: bytes) -> bytes:
    """Return what is made of an image, and hold what goes for each."""
    with TemporaryDirectory() as folder:
        source, target = Path(folder, "memory"), Path(folder, "made")
        source.write_bytes(data)
        with source.open("rb") as file, target.open("w+b") as made:
            found = outline(file)
            copy = Copy(file, lambda _: None)
            copy.make(found, made.write)
            made.seek(0)
            assert walk(made) == found.size - found.saved
        result = target.read_bytes()
    assert copy.was.hexdigest() == hashlib.sha256(data).hexdigest()
    assert copy.now.hexdigest() == hashlib.sha256(result).hexdigest()
    return result


# What a sender of Xen's may put between pages, of a PV guest above all.
OTHERS = (2, 3, 4, 5, 6, 7, 8, 9, 0xA, 0xC, 0x10, 0x11, 0x12, 0x80000001)
KINDS = st.sampled_from([0, 0, 0, 0, 1, 4, 9, 12, XTAB, XTAB, XALLOC, BROKEN])
PAGES = st.lists(st.builds(Page, st.integers(0, 12) | st.just(0xFEFF0), st.integers(0, 2**64 - 1), KINDS), min_size=1,
                 max_size=9, unique_by=lambda page: page.number).map(tuple)  # fmt: skip
STREAMS = st.lists(PAGES | PAGES | st.builds(Other, st.sampled_from(OTHERS), st.binary(max_size=20)), max_size=9)


@settings(max_examples=300, deadline=None)
@given(STREAMS)
def test_whatever_came_it_restores_to_the_same_memory(stream: list[Item]) -> None:
    before = image(stream)
    assert restored(compacted(before)) == restored(before)


@settings(max_examples=300, deadline=None)
@given(STREAMS)
def test_each_page_is_there_once_and_all_else_stays_where_it_was(stream: list[Item]) -> None:
    before = image(stream)
    after = compacted(before)
    assert [each for each in flat(after) if isinstance(each, Other)] == [
        each for each in flat(before) if isinstance(each, Other)
    ]
    left = iter(flat(before))
    assert all(each in left for each in flat(after))  # in their order
    numbers = [each.number for each in flat(after) if isinstance(each, Page) and each.kind != XALLOC]
    assert len(numbers) == len(set(numbers))
    assert compacted(after) == after


def test_one_that_came_three_times_is_no_larger_than_one_that_came_once() -> None:
    """A `paused` image is the sender's one pass over all pages, with a guest that stands still."""
    batches = [tuple(Page(n, n) for n in range(first, first + 1024)) for first in range(0, 4096, 1024)]
    again = [tuple(Page(n, ~n % 2**64) for n in range(first, first + 3 * 512, 3)) for first in (0, 1, 2)]
    live = compacted(image([*batches, *again, *batches[1:], *again]))
    assert len(live) <= len(image(batches)) * 1.05


def test_an_image_where_nothing_came_twice_stays_as_it_is() -> None:
    data = image([(Page(1), Page(2, kind=XTAB)), Other(9, b"x" * 24), (Page(3),)])
    assert compacted(data) == data


def test_the_last_word_on_a_page_is_that_it_is_a_hole() -> None:
    after = compacted(image([(Page(1, 7), Page(2, 8)), (Page(1, kind=XTAB),)]))
    assert flat(after) == [Page(2, 8), Page(1, kind=XTAB)]


def test_a_hole_that_was_filled_is_a_page() -> None:
    after = compacted(image([(Page(1, kind=XTAB), Page(2, 8)), (Page(1, 7),)]))
    assert flat(after) == [Page(2, 8), Page(1, 7)]


def test_that_a_page_is_there_says_nothing_of_what_it_holds() -> None:
    data = image([(Page(1, 7),), (Page(1, kind=XALLOC),)])
    assert compacted(data) == data


ODD: dict[str, tuple[bytes, str]] = {
    "sent again to be compared": (image([(Page(1),), Other(0xD), (Page(1),)]), "type 0xd"),
    "a checkpoint": (image([(Page(1),), Other(0xE), (Page(1),)]), "type 0xe"),
    "a list of dirty pages": (image([(Page(1),), Other(0xF, bytes(8))]), "type 0xf"),
    "a record of a newer Xen": (image([(Page(1),), Other(0x13)]), "type 0x13"),
    "a page of an unknown type": (image([(Page(1, kind=5),)]), "unknown type"),
    "a number with reserved bits": (image([(Page(2**53),)]), "beyond 4 TiB"),
    "a page twice in one record": (image([(Page(1, 2), Page(1, 3))]), "twice in one record"),
    "a record without pages": (image([Other(1, bytes(8))]), "has 8 bytes"),
    "a record of no pages": (image([Other(1, bytes(16))]), "of 0 pages"),
    "more numbers than the record holds": (image([Other(1, struct.pack("<IIQ", 2, 0, 1))]), "of 2 pages"),
    "less data than its pages": (image([Other(1, struct.pack("<IIQ", 1, 0, 1))]), "of 1 pages"),
    "data of a hole": (image([Other(1, struct.pack("<IIQ", 1, 0, XTAB << 60 | 1) + bytes(4096))]), "of 1 pages"),
    "a second memory": (HEAD + batch(Page(1)) + record(0) + HEAD[72:] + record(0) + record(0), "more than one memory"),
}


@pytest.mark.parametrize("data,words", ODD.values(), ids=ODD)
def test_what_is_not_understood_is_declined(data: bytes, words: str) -> None:
    with pytest.raises(Declined, match=words):
        compacted(data)


def test_a_record_too_large_to_be_one_of_xens_is_declined_unread(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    with path.open("w+b") as file:
        file.write(HEAD + struct.pack("<II", 1, 2**26 + 4096))
        file.truncate(len(HEAD) + 8 + 2**26 + 4096)
        file.seek(0, 2)
        file.write(image([])[len(HEAD) :])
        file.seek(0)
        with pytest.raises(Declined, match="has 67112960 bytes"):
            outline(file)


BUSY = image([(Page(1, 5), Page(2, 6)), Other(8, b"x" * 24), (Page(2, 7), Page(3, kind=XTAB)), Other(9, b"y" * 9)])


def test_an_image_that_was_cut_anywhere_is_refused() -> None:
    for end in [*range(0, len(BUSY), 61), *range(len(BUSY) - 20, len(BUSY))]:
        with pytest.raises((Declined, BrokenImage)):
            compacted(BUSY[:end])


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(BUSY) * 8 - 1))
def test_a_flipped_bit_is_refused_or_at_least_no_surprise(bit: int) -> None:
    """What it changes inside of a page, or of a record that is passed on, only the digest can tell."""
    data = bytearray(BUSY)
    data[bit // 8] ^= 1 << bit % 8
    try:
        after = compacted(bytes(data))
    except (Declined, BrokenImage):
        return
    assert len(after) <= len(data)


def test_an_image_that_changes_meanwhile_is_declined(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    path.write_bytes(BUSY)
    with path.open("rb") as file, (tmp_path / "made").open("wb") as made:
        found = outline(file)
        path.write_bytes(BUSY[:-4000])
        with pytest.raises(Declined, match="changed meanwhile"):
            Copy(file, lambda _: None).make(found, made.write)


def test_every_type_of_a_page_that_carries_no_data_is_known() -> None:
    assert sorted(WITHOUT_DATA) == [0xD, 0xE, 0xF]


def test_what_is_read_does_not_pile_up_before_a_slow_digest(tmp_path: Path) -> None:
    """A guest's memory is far larger than what a dom0 has."""

    class Slow:
        done = 0

        def update(self, _: bytes) -> None:
            time.sleep(0.02)
            self.done += 1

    slow, behind, reads = Slow(), [], 0

    def told(_: int) -> None:
        nonlocal reads
        reads += 1
        behind.append(reads - slow.done)

    path = tmp_path / "memory"
    path.write_bytes(image([(Page(1, n), Page(n + 2)) for n in range(20)]))
    with path.open("rb") as file, (tmp_path / "made").open("wb") as made:
        copy = Copy(file, told)
        copy.was = slow  # type: ignore[assignment]
        copy.make(outline(file), made.write)
    assert slow.done == reads > 15
    assert max(behind) <= 2
