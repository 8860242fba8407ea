"""Every QMP request that any plan or operation emits is one that the installed QEMU knows, argument by argument."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.oracles.emitted import requests
from tests.oracles.machine import Machine, Refusal, machine
from tests.oracles.qapi import Schema, objections, schema

FILE = {"driver": "file", "filename": "/a"}
OVERLAY = {"driver": "qcow2", "node-name": "n", "backing": None, "file": FILE, "discard": "unmap"}


@pytest.fixture(scope="module")
def qemu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("qemu")) as started:
        yield started


@pytest.fixture(scope="module")
def known(qemu: Machine) -> Schema:
    return schema(qemu("query-qmp-schema"))


def test_qemu_knows_every_request_that_is_emitted(known: Schema) -> None:
    wrong = [
        f"{where}: {objection}"
        for where, execute, arguments in requests()
        for objection in objections(known, execute, arguments)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_kind_of_request_is_among_those_that_were_held_against_it() -> None:
    emitted = {execute for _, execute, _ in requests()}
    assert emitted >= {
        "blockdev-add", "blockdev-del", "blockdev-reopen", "blockdev-snapshot-delete-internal-sync", "block-stream",
        "block-commit", "job-cancel", "job-complete", "job-dismiss", "query-block", "query-jobs",
        "query-named-block-nodes", "transaction",
    }  # fmt: skip
    actions = {
        action["type"] for _, execute, arguments in requests() if execute == "transaction"
        for action in arguments["actions"]
    }  # fmt: skip
    assert actions == {"abort", "blockdev-backup", "blockdev-snapshot", "blockdev-snapshot-internal-sync"}


WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "no command 'blockdev-snapshop'": ("blockdev-snapshop", {}),
    "'device' is missing": ("block-stream", {"job-id": "j"}),
    "'base_node' is unknown": ("block-stream", {"device": "d", "base_node": "b"}),
    "'yes' is no boolean": ("block-stream", {"device": "d", "auto-dismiss": "yes"}),
    "True is no int": ("block-stream", {"device": "d", "speed": True}),
    "'xfs' is not one of": ("blockdev-add", {"driver": "xfs", "node-name": "n"}),
    "'unmapp' is not one of": ("blockdev-add", {**OVERLAY, "discard": "unmapp"}),
    "blockdev-add.file: 'filename' is missing": ("blockdev-add", {**OVERLAY, "file": {"driver": "file"}}),
    "is none of what may stand here": ("blockdev-add", {**OVERLAY, "backing": 7}),
    "transaction.actions[0].data: 'node' is missing": (
        "transaction", {"actions": [{"type": "blockdev-snapshot", "data": {"overlay": "o"}}]},
    ),
    "'nonsense' is not one of": ("transaction", {"actions": [{"type": "nonsense", "data": {}}]}),
    "7 is no list": ("transaction", {"actions": 7}),
    "'a' is no object": ("transaction", {"actions": ["a"]}),
}  # fmt: skip


@pytest.mark.parametrize("objection", WRONG)
def test_a_wrong_request_is_found_and_qemu_agrees(known: Schema, qemu: Machine, objection: str) -> None:
    execute, arguments = WRONG[objection]
    assert any(objection in found for found in objections(known, execute, arguments))
    with pytest.raises(Refusal):
        qemu(execute, arguments)


@pytest.mark.parametrize("backing", [None, "node", OVERLAY])
def test_a_backing_image_may_be_none_a_node_or_described(known: Schema, backing: Any) -> None:
    assert not list(objections(known, "blockdev-add", {**OVERLAY, "backing": backing}))
