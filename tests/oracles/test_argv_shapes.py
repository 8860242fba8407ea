"""Every program on files that any plan runs is run once for real, so that no option is imagined."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.oracles.conftest import run
from tests.oracles.emitted import programs
from tests.oracles.shapes import shape

ELSEWHERE = {"xl", "lvs", "vgs", "lvcreate", "lvremove", "lvrename", "lvconvert", "lvextend", "lvchange"}
UNTESTED = {"vhd-util", "tap-ctl"}  # no host at hand has blktap: such plans are marked untested
TAG = "before-upgrade"
MIB = "1048576"


@dataclass(frozen=True)
class Scratch:
    """A folder on an XFS that shares blocks, where every call makes new files."""

    folder: Path

    def new(self) -> str:
        return str(self.folder / f"new {len(list(self.folder.iterdir()))}")

    def raw(self) -> str:
        path = self.new()
        Path(path).write_bytes(os.urandom(65536))
        return path

    def qcow2(self, *options: str) -> str:
        path = self.new()
        run("qemu-img", "create", "-q", "-f", "qcow2", *options, "--", path, MIB)
        return path

    def tagged(self) -> str:
        path = self.qcow2()
        run("qemu-img", "snapshot", "-c", TAG, path)
        return path

    def child(self) -> str:
        return self.qcow2("-b", self.qcow2(), "-F", "qcow2")

    def directory(self) -> str:
        path = self.new()
        Path(path).mkdir()
        return path

    def digest(self) -> str:
        path = self.raw()
        Path(f"{path}.sha256").write_text(run("sha256sum", path))
        return f"{path}.sha256"

    def compressed(self) -> str:
        path = self.new()
        Path(path).write_text("memory")
        run("zstd", "-q", "--", path)
        return f"{path}.zst"


@pytest.fixture
def process() -> Iterator[str]:
    with subprocess.Popen(["sleep", "60"]) as started:
        yield str(started.pid)
        started.kill()


# For each shape what stands in the place of each `_`; a shape that ends in "= 1" is to exit 1.
FILES: dict[str, Callable[[Scratch], tuple[str, ...]]] = {
    "cp --attributes-only --preserve=all -- _ _": lambda s: (s.raw(), s.qcow2()),
    "cp --reflink=always --preserve=all -T -- _ _": lambda s: (s.raw(), s.new()),
    "cp --reflink=never --sparse=always --preserve=all -T -- _ _": lambda s: (s.raw(), s.new()),
    "df -B1 --output=avail -- _": lambda s: (str(s.folder),),
    "ln -- _ _": lambda s: (s.raw(), s.new()),
    "ln -f -- _ _": lambda s: (s.raw(), s.raw()),
    "mkdir -m 0700 -- _": lambda s: (s.new(),),
    "mkdir -p -m 0700 -- _": lambda s: (s.directory() + "/a/b",),
    "qemu-img convert -U -l snapshot.name=_ -f qcow2 -O qcow2 -- _ _": lambda s: (TAG, s.tagged(), s.new()),
    "qemu-img create -q -f raw -- _ _": lambda s: (s.new(), MIB),
    "qemu-img create -q -u -f qcow2 -b _ -F qcow2 -- _ _": lambda s: (s.new(), s.new() + "x", MIB),
    "qemu-img info -U --output=json -- _": lambda s: (s.tagged(),),
    "qemu-img rebase -q -f qcow2 -b '' -- _": lambda s: (s.child(),),
    "qemu-img rebase -q -f qcow2 -b _ -F qcow2 -- _": lambda s: (s.qcow2(), s.child()),
    "qemu-img snapshot -a _ -- _": lambda s: (TAG, s.tagged()),
    "qemu-img snapshot -c _ -- _": lambda s: (TAG, s.qcow2()),
    "qemu-img snapshot -d _ -- _": lambda s: (TAG, s.tagged()),
    "rm -- _": lambda s: (s.raw(),),
    "rm -f -- _": lambda s: (s.raw(),),
    "rm -f -- _ _": lambda s: (s.raw(), s.new()),
    "rm -f -- _ _ _": lambda s: (s.raw(), s.new(), s.new()),
    "rmdir -- _": lambda s: (s.directory(),),
    "sha256sum --check --status --strict -- _": lambda s: (s.digest(),),
    "stat -c %d:%i -- _": lambda s: (s.raw(),),
    "sync -- _": lambda s: (s.raw(),),
    "zstd -d -c -q -- _": lambda s: (s.compressed(),),
    "zstd -t -q -- _": lambda s: (s.compressed(),),
    "test ! -L _": lambda s: (s.raw(),),
    "test ! -d _": lambda s: (s.raw(),),
    "test ! -e _": lambda s: (s.new(),),
    "test -d _": lambda s: (str(s.folder),),
    "test -e _": lambda s: (s.raw(),),
    "test -f _": lambda s: (s.raw(),),
    "test -s _": lambda s: (s.raw(),),
    "test _ -ef _": lambda s: (path := s.raw(), path),
}
PROCESSES: dict[str, str] = {
    "cat _": "/proc/{}/stat",
    "kill -s CONT -- _": "{}",
    "kill -s STOP -- _": "{}",
    "readlink _": "/proc/{}/exe",
}


def filled(known: str, operands: tuple[str, ...]) -> list[str]:
    """Return the argv of a shape with its places filled in order."""
    left = list(operands)
    words = [re.sub("_$", lambda _: left.pop(0), word) for word in known.split(" ")]
    assert not left
    return ["" if word == "''" else word for word in words]


def shapes() -> dict[str, str]:
    """Return shape -> where it was met, of every program on files and processes."""
    return {shape(argv): where for where, argv in programs() if argv[0] not in ELSEWHERE | UNTESTED}


def test_every_shape_that_is_emitted_is_run_here() -> None:
    unknown = {known: where for known, where in shapes().items() if known not in {**FILES, **PROCESSES}}
    assert not unknown, "\n".join(
        f"a new shape of argv: {known!r} ({where}); add it to FILES or PROCESSES in {Path(__file__).name},"
        " with what to put in the place of each _"
        for known, where in unknown.items()
    )


def test_no_shape_is_run_that_nothing_emits_any_more() -> None:
    assert not {**FILES, **PROCESSES}.keys() - shapes().keys()


@pytest.mark.parametrize("known", FILES)
def test_the_program_takes_these_options(known: str, xfs: Path) -> None:
    argv = filled(known, FILES[known](Scratch(xfs)))
    assert shape(tuple(argv)) == known  # what runs here is what the plan emits
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("known", PROCESSES)
def test_the_program_takes_a_process(known: str, process: str) -> None:
    argv = filled(known, (PROCESSES[known].format(process),))
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "argv,known",
    [
        (("qemu-img", "snapshot", "-c", "later", "--", "/a"), "qemu-img snapshot -c _ -- _"),
        (("qemu-img", "rebase", "-b", "", "--", "/a"), "qemu-img rebase -b '' -- _"),
        (("test", "/a", "-ef", "/b"), "test _ -ef _"),
        (("lvs", "-o", "lv_uuid", "--", "vg0/db"), "lvs -o lv_uuid -- _"),
        (("lvremove", "--select", 'lv_name="a" && lv_tags={"b"}', "--", "v"),
         'lvremove --select lv_name="_" && lv_tags={"_"} -- _'),
        (("rm", "-f", "--", "-r"), "rm -f -- _"),
    ],
)  # fmt: skip
def test_a_shape_keeps_the_options_and_drops_the_operands(argv: tuple[str, ...], known: str) -> None:
    assert shape(argv) == known
