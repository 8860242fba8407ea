"""Compacted and compressed images of live captures: what they restore to, and that a good snapshot is one whatever
becomes of them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Survived
from tests.sandbox.host import Sandbox
from tests.sandbox.test_apply import domsnap, start, unfinished, whole
from tests.sandbox.test_live import Attempt, box, create, kill, left, pids, spec, wait

__all__ = ["box"]  # a fixture
AFTER = {"srv/web01-xvda.qcow2", "srv/web01-xvdb.raw", "store/web01/current"}  # a deletion


def memory(box: Sandbox) -> set[str]:
    return {Path(name).name for name in left(box) if name.startswith("store/web01/one/memory")}


COMPACTED = {"memory.compact", "memory.compact.sha256"}
COMPRESSED = {"memory.zst", "memory.zst.sha256"}
AS_IT_CAME = {"memory", "memory.sha256"}


def busy(box: Sandbox) -> None:
    """Have the guest change some pages between the passes of the copy."""
    create(box)
    box.tell(save_rate=2_000_000)


def holds(box: Sandbox) -> None:
    """Hold that the snapshot is fine and that the guest can be brought back to it, and that it can be deleted."""
    box.tell(save_rate=0)
    domsnap(box, "verify", "web01", "--store", str(box.store))
    late = box.mark("web01").counter
    domsnap(box, "apply", spec(box), "--revert", "--discard-current", "--yes")
    now = box.instant("web01")
    assert now.tear == "" and now.mark.counter < late
    whole(box)
    domsnap(box, "apply", spec(box), "--delete", "--yes")
    assert left(box) == AFTER


@pytest.mark.parametrize("more,shrink,words", [
    ("", "compact", "with the last copy of each page alone"),
    (", compress: zstd", "zst", "compressed, with the last copy of each page alone"),
    (", compact: false, compress: zstd", "zst", "MiB compressed\n"),
], ids=["compacted", "both", "compressed"])  # fmt: skip
def test_a_smaller_image_takes_the_place_and_the_guest_comes_back_from_it(
    box: Sandbox, more: str, shrink: str, words: str
) -> None:
    busy(box)
    said = domsnap(box, "apply", spec(box, more=more), "--yes")
    assert words in said
    assert memory(box) == (COMPACTED if shrink == "compact" else COMPRESSED)
    shown = json.loads(domsnap(box, "show", "web01", "one", "--json", "--store", str(box.store)))["snapshot"]
    image = box.store / f"web01/one/memory.{shrink}"
    assert (shown["memory"], shown["shrink"], shown["shrunk"]) == (str(image), shrink, True)
    assert image.name in domsnap(box, "show", "web01", "one", "--store", str(box.store))
    holds(box)


def test_without_compaction_it_stays_as_it_came(box: Sandbox) -> None:
    busy(box)
    said = domsnap(box, "apply", spec(box, more=", compact: false"), "--yes")
    assert "copy of each page" not in said
    assert memory(box) == AS_IT_CAME
    holds(box)


@contextmanager
def compacting(box: Sandbox, more: str = "") -> Iterator[Attempt]:
    """Apply, up to where the smaller image has been begun."""
    busy(box)
    with start(box, "apply", spec(box, more=more), "--yes", module="tests.sandbox.stuck") as process:
        wait(lambda: memory(box) & {"memory.compact", "memory.zst"} or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        box.runs_on("web01")
        domsnap(box, "verify", "web01", "--store", str(box.store))  # it is published
        yield (attempt := Attempt(process))
        attempt.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_the_snapshot_is_done(box: Sandbox, number: int, survived: Survived) -> None:
    with compacting(box) as attempt:
        attempt.process.send_signal(number)
    assert attempt.status == 0, attempt.said
    assert f"stays as it came, which is as good: given up: interrupted by signal {number:d}" in attempt.said
    assert memory(box) == AS_IT_CAME and not unfinished(box)
    holds(box)
    survived(f"{signal.Signals(number).name} while an image is compacted", 1, "it stays as it came; exit status 0")


@pytest.mark.parametrize("more", ["", ", compress: zstd"], ids=["compacted", "compressed"])
def test_the_guardian_of_a_killed_apply_does_the_rest(box: Sandbox, more: str, survived: Survived) -> None:
    with compacting(box, more) as attempt:
        kill(pids(box, "apply")[:1])
    assert attempt.status == -signal.SIGKILL
    wait(lambda: not unfinished(box))
    assert memory(box) == (COMPRESSED if more else COMPACTED), attempt.said
    holds(box)
    survived("apply killed while an image is made smaller", 1, "the guardian does the rest")


@pytest.mark.parametrize("how", ["resume", "delete"])
def test_killed_with_its_guardian_it_is_resumed_or_deleted(box: Sandbox, how: str, survived: Survived) -> None:
    with compacting(box) as attempt:
        kill(pids(box, "apply"))
    assert attempt.status == -signal.SIGKILL
    assert memory(box) == AS_IT_CAME | {"memory.compact"}
    assert "was cut off" in domsnap(box, "status", "--store", str(box.store), status=6)
    domsnap(box, "verify", "web01", "--store", str(box.store))
    if how == "resume":
        domsnap(box, "resume", "web01", "--store", str(box.store))
        assert memory(box) == COMPACTED and not unfinished(box)
        holds(box)
    else:
        domsnap(box, "apply", spec(box), "--delete", "--yes")
        assert left(box) == AFTER
        domsnap(box, "resume", "web01", "--store", str(box.store))
        assert left(box) == AFTER and not unfinished(box)
    survived(f"apply and its guardian killed while an image is compacted; then {how}", 1, "nothing is left over")


def test_an_image_that_cannot_be_written_leaves_the_one_that_came(box: Sandbox, survived: Survived) -> None:
    busy(box)
    target = box.store / "web01/one/memory.compact"
    with start(box, "apply", spec(box), "--yes") as process:
        wait((target.parent / "memory.part").exists)
        os.mkdir(target)  # what else cannot be written
        printed, said = process.communicate(timeout=120)
    assert process.returncode == 0, printed + said
    assert "which is as good" in said and "File exists" in said
    target.rmdir()
    assert memory(box) == AS_IT_CAME
    holds(box)
    survived("the compacted image cannot be written", 1, "it stays as it came; exit status 0")
