"""YAML text to values: the place of every one, the text that was written, and nothing that takes long."""

from __future__ import annotations

import hashlib

import pytest

from schema.diagnostic import Diagnostic, Refused
from schema.read import read_specs
from schema.source import MAX_BYTES, MAX_DEPTH, Document, Plain, load
from schema.spec import Disk, Memory, Spec
from schema.validate import MANY

ONE = b"version: 1\ndomain: web01\nsnapshot: one\n"
WHOLE = b"""\
# what is saved, and why
version: 1
domain: web01
snapshot: "before"
memory:
  capture: live
disks:
  xvda: internal
  xvdb: {method: lvm, size: 1.5 GiB}
  "xvdc":
    method: exclude
    reason: swap
"""


def only(data: bytes) -> Document:
    [document] = load(data, "f.yaml")
    return document


def spec(data: bytes) -> Spec:
    [found] = read_specs(data, "f.yaml")
    return found


def refused(data: bytes) -> tuple[Diagnostic, ...]:
    with pytest.raises(Refused) as caught:
        read_specs(data, "f.yaml")
    return caught.value.diagnostics


@pytest.mark.parametrize(
    "path,place",
    [
        ((), "f.yaml:2:1"),
        (("version",), "f.yaml:2:10"),
        (("snapshot",), "f.yaml:4:11"),
        (("memory",), "f.yaml:5:1"),  # of a block, its key: where the reader looks
        (("memory", "capture"), "f.yaml:6:12"),
        (("disks", "xvda"), "f.yaml:8:9"),
        (("disks", "xvdb"), "f.yaml:9:9"),
        (("disks", "xvdb", "size"), "f.yaml:9:29"),
        (("disks", "xvdc"), "f.yaml:10:3"),
        (("disks", "xvdc", "reason"), "f.yaml:12:13"),
    ],
)
def test_every_value_has_its_place(path: tuple[str, ...], place: str) -> None:
    assert str(only(WHOLE).positions[path]) == place


def test_every_key_has_its_place() -> None:
    keys = only(WHOLE).keys
    assert str(keys["disks", "xvdb", "size"]) == "f.yaml:9:23"
    assert str(keys["disks", "xvdc"]) == "f.yaml:10:3"


def test_items_of_lists_have_their_places() -> None:
    document = only(b"a:\n  - b\n  - c: d\n")
    assert document.value == {"a": ["b", {"c": "d"}]}
    assert str(document.positions["a", 1, "c"]) == "f.yaml:3:8"


def test_a_spec_knows_where_the_nearest_thing_is_said() -> None:
    found = spec(WHOLE)
    assert str(found.where("disks", "xvda", "method")) == "f.yaml:8:9"
    assert str(found.where("store")) == "f.yaml:3:9"  # where the domain is named
    assert str(found.where()) == "f.yaml:2:1"


def test_columns_count_characters_not_bytes() -> None:
    document = only('{"größe": one}'.encode())
    assert str(document.positions["größe",]) == "f.yaml:1:11"


def test_a_whole_spec_is_read() -> None:
    found = spec(WHOLE)
    assert found == Spec(
        "web01",
        "before",
        memory=Memory("live"),
        disks=(
            Disk("xvda", "internal"),
            Disk("xvdb", "lvm", size=3 * 2**29),
            Disk("xvdc", "exclude", reason="swap"),
        ),
        digest=hashlib.sha256(WHOLE).hexdigest(),
    )


@pytest.mark.parametrize(
    "written",
    ["no", "yes", "off", "null", "2024-01-01", "1e3", "0x1f", "1.5", "010b", "true", "1_000", "12e03", ".inf1"],
)
def test_text_is_the_text_that_was_written(written: str) -> None:
    key = "domain" if written.startswith(".") else "snapshot"
    data = ONE.replace(b"one" if key == "snapshot" else b"web01", written.encode())
    assert getattr(spec(data), key) == written


def test_plain_text_and_quoted_text_are_told_apart() -> None:
    value = only(b"a: 1\nb: '1'\nc: \"1\"\nd: |\n  1\n").value
    assert [isinstance(each, Plain) for each in value.values()] == [True, False, False, False]


@pytest.mark.parametrize("quoted", [b"'one'", b'"one"', b'"\\x6fne"', b"one # not this", b"one   ", b">-\n  one"])
def test_quotes_and_comments_do_not_count(quoted: bytes) -> None:
    assert spec(ONE.replace(b"one", quoted)).snapshot == "one"


@pytest.mark.parametrize("block", [b"|\n  one", b">\n  one", b'"one\\n"'])
def test_a_name_ends_where_it_ends(block: bytes) -> None:
    assert refused(ONE.replace(b"one", block))[0].summary == "not a valid snapshot name"


@pytest.mark.parametrize(
    "size,count",
    [("1", 1), ("512", 512), ("512B", 512), ("1K", 1024), ("1KB", 1024), ("1KiB", 1024), ("4GiB", 2**32),
     ("1.5GiB", 3 * 2**29), ("0.25 TiB", 2**38), ("20M", 20 * 2**20)],
)  # fmt: skip
def test_sizes_count_by_1024(size: str, count: int) -> None:
    found = spec(ONE + f"disks:\n  xvda: {{method: lvm, size: {size}}}\n".encode())
    assert found.disks[0].size == count


def test_a_byte_order_mark_is_passed_over() -> None:
    found = spec(b"\xef\xbb\xbf" + ONE)
    assert str(found.positions["version",]) == "f.yaml:1:10"
    assert found.digest == spec(ONE).digest


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_other_line_ends_are_the_same_text(end: bytes) -> None:
    assert spec(WHOLE.replace(b"\n", end)) == spec(WHOLE)
    assert spec(WHOLE.replace(b"\n", end)).positions == spec(WHOLE).positions


def test_json_is_yaml() -> None:
    assert spec(b'{"version": 1, "domain": "web01", "snapshot": "one"}').snapshot == "one"


def test_tabs_may_stand_where_they_indent_nothing() -> None:
    assert spec(ONE.replace(b"one", b"one\t# why") + b"description: 'a\tb'\n").description == "a\tb"


def test_several_documents_are_several_snapshots_each_with_a_digest_of_its_own() -> None:
    first, second = read_specs(ONE + b"---\n" + ONE.replace(b"one", b"two") + b"...\n", "f.yaml")
    assert (first.snapshot, second.snapshot) == ("one", "two")
    assert first.digest != second.digest
    assert str(second.positions["snapshot",]) == "f.yaml:7:11"


def test_a_document_keeps_its_digest_whatever_its_neighbours_say() -> None:
    other = ONE.replace(b"one", b"two")
    digests = {read_specs(ONE + b"---\n" + other + more, "f.yaml")[0].digest for more in (b"", b"description: new\n")}
    assert len(digests) == 1


def test_the_digest_changes_with_every_character() -> None:
    assert spec(ONE).digest != spec(ONE + b"# a word\n").digest


def test_the_same_snapshot_of_two_domains_may_stand_in_one_file() -> None:
    assert len(read_specs(ONE + b"---\n" + ONE.replace(b"web01", b"db01"), "f.yaml")) == 2


def test_files_up_to_the_limit_are_read() -> None:
    assert spec(ONE + b"#" * (MAX_BYTES - len(ONE))).snapshot == "one"
    assert refused(ONE + b"#" * (MAX_BYTES - len(ONE) + 1))[0].summary == "the file is too large"


def test_nesting_up_to_the_limit_is_read_and_no_further() -> None:
    only(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    with pytest.raises(Refused, match="nested too deeply"):
        only(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))


def test_what_is_nested_too_deeply_is_refused_before_the_rest_is_read() -> None:
    """The bracket that is wrong comes much later, and nobody reads so far."""
    with pytest.raises(Refused, match="nested too deeply"):
        only(b"[" * 100_000 + b"}")


def test_an_alias_is_refused_before_it_is_expanded() -> None:
    with pytest.raises(Refused, match="aliases are not read"):
        only(b"a: &a x\nb: " + b"[" * 100_000)


@pytest.mark.parametrize(
    "data",
    [
        ONE + b"".join(b"key%d: 1\n" % number for number in range(5000)),
        ONE + b"disks:\n" + b"".join(b"  disk%d: nothing\n" % number for number in range(5000)),
        ONE + b"snapshot: two\n" * 5000,
        b"---\n" * 5000,
    ],
)
def test_of_a_file_full_of_mistakes_only_the_first_are_told_and_that_there_are_more(data: bytes) -> None:
    *told, last = refused(data)
    assert len(told) == MANY
    assert last.summary == "more is wrong" not in {each.summary for each in told}
    assert last.position and told[-1].position and last.position >= told[-1].position


def test_all_that_is_wrong_is_said_at_once_in_the_order_of_the_file() -> None:
    found = refused(b"version: 0\ndomain: 7\nsnapshot: A\nmemory: none\nstore: x\ndisks: {zz: 1}\n---\nversion: 1\n")
    assert [each.position.line for each in found if each.position] == [1, 2, 3, 4, 5, 6, 6, 8]
