"""What is said of every mistake, word for word: NAME.err is beside NAME.yaml; with NAME.facts.json it is planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from domsnap.message import message
from schema.diagnostic import Diagnostic, Refused
from schema.read import read_json, read_specs

HERE = Path(__file__).parent
ONE = b"version: 1\ndomain: web01\nsnapshot: one\n"


def odd_bytes() -> dict[str, bytes]:
    """Return the mistakes that no editor shows: bytes that a repository would not keep as they are, and large files."""
    bomb = b"".join(b"k%d: &k%d [%s]\n" % (n, n, b", ".join([b"*k%d" % (n - 1)] * 9)) for n in range(1, 30))
    return {
        "nul": ONE + b"description: a\0b\n",
        "escape-sequence": ONE + b"description: \x1b[2Jgone\n",
        "delete-character": ONE + b"description: a\x7fb\n",
        "c1-control-character": ONE + "description: a\u0085b\n".encode(),
        "line-separator": ONE + "description: a\u2028b\n".encode(),
        "bom-in-the-middle": ONE + "description: a\ufeffb\n".encode(),
        "two-boms": b"\xef\xbb\xbf\xef\xbb\xbf" + ONE,
        "bom-then-a-mistake": b"\xef\xbb\xbfversoin: 1\n" + ONE[11:],
        "invalid-utf-8": ONE + b"description: caf\xe9\n",
        "utf-8-cut-off": ONE + b"description: caf\xc3",
        "surrogate-as-utf-8": ONE + b"description: \xed\xa0\x80\n",
        "utf-16-little-endian": b"\xff\xfe" + ONE.decode().encode("utf-16-le"),
        "utf-16-big-endian": b"\xfe\xff" + ONE.decode().encode("utf-16-be"),
        "utf-16-without-a-mark": ONE.decode().encode("utf-16-le"),
        "crlf-and-a-mistake": ONE.replace(b"\n", b"\r\n") + b"stroe: /srv\r\n",
        "lone-cr-and-a-mistake": ONE.replace(b"\n", b"\r") + b"stroe: /srv\r",
        "tab-as-indentation": ONE + b"disks:\n\txvda: internal\n",
        "tab-after-blanks": ONE + b"disks:\n  xvda:\n  \tmethod: internal\n",
        "no-break-space-in-a-name": b"version: 1\ndomain: web01\nsnapshot: a\xc2\xa0b\n",
        "right-to-left-mark": "version: 1\ndomain: web01\nsnapshot: a\u202eb\n".encode(),
        "one-byte-too-many": ONE + b"#" * (2**20 - len(ONE)) + b"\n",
        "nested-too-deeply": ONE + b"description: " + b"[" * 100 + b"\n",
        "nested-far-too-deeply": b"[" * (2**20 - 1),
        "nested-as-keys": b"{" * 100_000,
        "alias-bomb": b"k0: &k0 x\n" + bomb,
        "no-bytes-but-blanks": b"  \n\n   \n",
        "a-gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
        "escape-in-double-quotes": ONE + b'description: "a\\x00b"\n',
        "long-line": ONE
        + b"description: "
        + b"word " * 60
        + b"\ndisks: {"
        + b"".join(b"xvd%c: internal, " % c for c in b"abcdefghij")
        + b"xvdk: interal, xvdl: internal}\n",
    }


def cases() -> list[str]:
    return sorted([file.stem for file in HERE.glob("*.yaml")] + list(odd_bytes()))


def refusals(name: str) -> tuple[Diagnostic, ...]:
    """Return all that is said of a case; what is raised that is not Refused fails the test."""
    file = HERE / f"{name}.yaml"
    data = file.read_bytes() if file.exists() else odd_bytes()[name]
    facts = HERE / f"{name}.facts.json"
    try:
        specs = read_specs(data, f"{name}.yaml")
        if facts.exists():
            from planner.compile import compile_plan
            from planner.facts import facts_from_json

            there = facts_from_json(read_json("facts", facts.read_bytes(), facts.name))
            for spec in specs:
                compile_plan("create", spec, there)
    except Refused as refused:
        return refused.diagnostics
    return ()


@pytest.mark.parametrize("name", cases())
def test_every_mistake_is_said_in_these_words(name: str, request: pytest.FixtureRequest) -> None:
    found = refusals(name)
    assert any(each.severity == "error" for each in found), "nothing was said"
    text = "\n".join(map(message, found))
    expected = HERE / f"{name}.err"
    if request.config.getoption("--update"):
        expected.write_text(text, encoding="utf-8")
    assert text == expected.read_text(encoding="utf-8")


def test_no_expected_text_is_left_over_and_there_are_at_least_eighty() -> None:
    kept = {file.stem for file in HERE.glob("*.err")}
    assert kept == set(cases())
    assert len(kept) >= 80


@pytest.mark.parametrize("name", cases())
def test_what_is_said_stands_in_the_order_of_the_file_and_at_a_place_in_it(name: str) -> None:
    places = [each.position for each in refusals(name)]
    assert all(place and place.file == f"{name}.yaml" for place in places)
    assert places == sorted(place for place in places if place)
