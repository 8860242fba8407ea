"""Whatever the input: values, or a refusal whose words can be printed and whose places are in the file."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from domsnap.message import message
from planner.compile import compile_plan, offline_facts
from planner.facts import facts_from_json
from schema.diagnostic import Diagnostic, Refused
from schema.read import read_json, read_specs
from schema.spec import Spec
from tests.planner.hosts import document, facts, spec, taken

VALID = """\
version: 1
domain: web01
snapshot: before-upgrade
description: "Before the 13.2 upgrade"
memory: {capture: live, file: /srv/web01.mem}
disks:
  xvda: internal
  xvdb: {method: copy, target: /srv/vm/web01-data.raw, format: raw, backend: phy, capacity: 4GiB}
  xvdc:
    method: lvm
    size: 1.5GiB
  xvdd: {method: exclude, reason: swap}
store: /srv/snapshots
assume:
  xen: 4.17.7
  qemu: 7.2.22
  domid: 7
  uuid: bbe9b839-51d1-4ac0-8ea2-25778e7005b1
  type: pvh
  memory: 1GiB
---
version: 1
domain: web01
snapshot: later
"""
WORDS = [
    *VALID.split(),
    "\n", "\r\n", "\r", "  ", "\t", ":", ": ", "- ", "[", "]", "{", "}", ",", "&a", "*a", "!!str ", "|\n",
    ">-\n", "'", '"', "#", "%", "@", "---\n", "...\n", "? ", "<<: ", "\\", '"\\x00"', "\0", "\x1b", "\ufeff", "\u2028",
    "\ud7ff", "é", "\U0001f600", "~", "null", "no", "none", "0", "9" * 40, "1e999", "-1", "0.0", "TiB", "..", "/",
]  # fmt: skip
QUICK = settings(max_examples=200, deadline=None)


def hold(diagnostics: tuple[Diagnostic, ...], name: str, text: str | None) -> None:
    """Hold what a refusal must be."""
    assert diagnostics
    lines = None if text is None else text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for each in diagnostics:
        assert each.summary and each.severity in {"error", "warning"}
        json.dumps(each.to_json()).encode()
        for line in message(each).removesuffix("\n").split("\n"):
            assert line.isprintable(), line
            line.encode()
        if each.position is not None:
            assert each.position.file == name
            if lines is not None:
                assert 1 <= each.position.line <= len(lines), each
                assert 1 <= each.position.column <= len(lines[each.position.line - 1]) + 1, each


def read(data: bytes) -> tuple[Spec, ...]:
    try:
        found = read_specs(data, "f.yaml")
    except Refused as refused:
        hold(refused.diagnostics, "f.yaml", data.decode(errors="replace"))
        return ()
    for each in found:
        try:
            compile_plan("create", each, offline_facts(each), offline=True)
        except Refused as refused:
            hold(refused.diagnostics, "f.yaml", None)
        try:
            compile_plan("create", each, facts())
        except Refused as refused:
            hold(refused.diagnostics, "f.yaml", None)
    return found


def test_the_valid_spec_is_valid() -> None:
    assert len(read(VALID.encode())) == 2


@QUICK
@given(st.binary(max_size=200))
@example(b"\xff\xfe")
@example(b"%")
@example(b"\xef\xbb\xbf")
def test_any_bytes(data: bytes) -> None:
    read(data)


@QUICK
@given(st.lists(st.sampled_from(WORDS), max_size=40))
def test_anything_like_yaml(words: list[str]) -> None:
    read("".join(words).encode())


@QUICK
@given(st.data())
def test_a_valid_spec_with_something_put_in_or_taken_out(data: st.DataObject) -> None:
    text = VALID
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(text)))
        end = data.draw(st.sampled_from([begin, begin, begin + 1, begin + 5, begin + 30]))
        text = text[:begin] + data.draw(st.sampled_from(WORDS) | st.text(max_size=3)) + text[end:]
    read(text.encode(errors="replace"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@QUICK
@given(st.data())
def test_a_valid_spec_with_a_value_of_another_kind(data: st.DataObject) -> None:
    value: Any = {
        "version": 1, "domain": "web01", "snapshot": "one", "memory": {"capture": "paused"}, "store": "/srv/s",
        "disks": {"xvda": "internal", "xvdb": {"method": "copy"}},
    }  # fmt: skip
    read(json.dumps(bent(value, data)).encode(errors="replace"))


def bent(value: Any, data: st.DataObject) -> Any:
    """Return a copy of a document with one value in it, at any depth, made another."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or data.draw(st.integers(0, 5)) == 0:
        return data.draw(VALUES | st.sampled_from([0, -1, 2**63 - 1, "", "..", "/", "4.x", "99.99", [], {}]))
    key = data.draw(st.sampled_from(keys))
    what = data.draw(st.sampled_from(["in", "in", "in", "in", "drop", "twice"]))
    if isinstance(value, dict):
        rest = {each: inner for each, inner in value.items() if each != key}
        if what == "in":
            return {**value, key: bent(value[key], data)}
        return rest if what == "drop" else {**value, data.draw(st.text(max_size=4)): value[key]}
    items = list(value)
    if what == "in":
        items[key] = bent(items[key], data)
    elif what == "drop":
        del items[key]
    else:
        items.append(items[key])
    return items


HOST = json.loads(json.dumps(document(taken(spec(), facts()))))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_facts_with_anything_in_them(data: st.DataObject) -> None:
    changed = HOST
    for _ in range(data.draw(st.integers(1, 3))):
        changed = bent(changed, data)
    try:
        there = facts_from_json(read_json("facts", json.dumps(changed).encode(), "f.json"))
    except Refused as refused:
        hold(refused.diagnostics, "f.json", None)
        return
    for verb, name in (("create", "later"), ("revert", "before-upgrade"), ("delete", "before-upgrade")):
        try:
            compile_plan(verb, spec(name), there).text().encode()  # type: ignore[arg-type]
        except Refused as refused:
            for each in refused.diagnostics:
                assert all(line.isprintable() for line in message(each).removesuffix("\n").split("\n"))


@QUICK
@given(
    st.binary(max_size=100) | st.text(alphabet='{}[]":,0123456789eE+-.\\untrfalse \ud7ff', max_size=60).map(str.encode)
)
def test_facts_of_any_bytes(data: bytes) -> None:
    for kind in ("facts", "plan", "record"):
        try:
            read_json(kind, data, "f.json")
        except Refused as refused:
            hold(refused.diagnostics, "f.json", None)
        else:
            raise AssertionError(data)
