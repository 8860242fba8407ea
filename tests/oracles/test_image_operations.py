"""The operations on images that no QEMU has open, done for real: they do what they say, and their undo undoes it."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from planner.operations.files import CopyFile
from planner.operations.overlay import CreateOverlay, FreezeName, Rebase, TakePath, backed_by
from planner.operations.qcow2 import ApplyTag, DeleteTag, ExtractTag, TagImage, has_tag
from tests.oracles.conftest import run as shell
from tests.oracles.perform import perform, run, undo

SIZE = 2**20


def qcow2(path: Path, *options: str | Path) -> Path:
    shell("qemu-img", "create", "-q", "-f", "qcow2", *map(str, options), "--", str(path), str(SIZE))
    return path


def write(path: Path, byte: int, place: str = "0") -> None:
    shell("qemu-io", "-f", "qcow2", "-c", f"write -P {byte} {place} 64k", str(path))


def holds(path: Path, byte: int, place: str = "0") -> bool:
    """Whether that is read there; qemu-io exits 1 when the pattern is another one."""
    argv = ["qemu-io", "-r", "-f", "qcow2", "-c", f"read -P {byte} {place} 64k", str(path)]
    return subprocess.run(argv, check=False, capture_output=True, timeout=30).returncode == 0


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_tag_is_made_applied_and_deleted(tmp_path: Path) -> None:
    image = str(qcow2(tmp_path / "a.qcow2"))
    write(Path(image), 1)
    perform(TagImage("xvda", image, "s1"))
    write(Path(image), 2)
    perform(ApplyTag("xvda", image, "s1", ""))
    assert holds(Path(image), 1)
    perform(DeleteTag("xvda", image, "s1", "", ""))
    with pytest.raises(AssertionError):
        run([has_tag(image, "s1")])


def test_an_applied_tag_is_undone_by_the_tag_of_the_present(tmp_path: Path) -> None:
    image = str(qcow2(tmp_path / "a.qcow2"))
    perform(TagImage("xvda", image, "s1"))
    write(Path(image), 2)
    perform(TagImage("xvda", image, "pre-revert-1"))
    operation = ApplyTag("xvda", image, "s1", "pre-revert-1")
    perform(operation)
    assert holds(Path(image), 0)
    undo(operation)
    assert holds(Path(image), 2)


def test_removing_a_tag_that_is_not_there_is_tolerated(tmp_path: Path) -> None:
    image = str(qcow2(tmp_path / "a.qcow2"))
    undo(TagImage("xvda", image, "s1"))
    perform(DeleteTag("xvda", image, "s1", "", ""))


def test_the_name_of_one_tag_is_not_taken_for_another(tmp_path: Path) -> None:
    image = str(qcow2(tmp_path / "a.qcow2"))
    perform(TagImage("xvda", image, "before.1"))
    run([has_tag(image, "before.1")])
    for other in ("before", "beforex1", "efore.1", "before.12"):
        with pytest.raises(AssertionError):
            run([has_tag(image, other)])


def test_a_tag_is_copied_out_into_an_image_of_its_own(tmp_path: Path) -> None:
    image, new = qcow2(tmp_path / "a.qcow2"), tmp_path / "new image.qcow2"
    write(image, 1)
    perform(TagImage("xvda", str(image), "s1"))
    write(image, 2)
    image.chmod(0o640)
    before = image.read_bytes()
    operation = ExtractTag("xvda", str(image), "s1", str(new), str(image))
    perform(operation)
    assert holds(new, 1)
    assert stat.S_IMODE(new.stat().st_mode) == 0o640
    assert image.read_bytes() == before
    undo(operation)
    assert listing(tmp_path) == ["a.qcow2"]


@pytest.mark.parametrize("reflink", [True, False])
def test_a_copy_has_the_content_the_owner_and_the_mode(xfs: Path, reflink: bool) -> None:
    source, copy = xfs / "a b.raw", xfs / "copy.raw"
    source.write_bytes(os.urandom(3 * 65536))
    os.chown(source, 1234, 4321)
    source.chmod(0o604)
    operation = CopyFile("xvda", str(source), str(copy), reflink)
    perform(operation)
    assert copy.read_bytes() == source.read_bytes()
    there = copy.stat()
    assert (there.st_uid, there.st_gid, stat.S_IMODE(there.st_mode)) == (1234, 4321, 0o604)
    with pytest.raises(AssertionError):
        perform(operation)  # the name is taken now
    undo(operation)
    assert listing(xfs) == ["a b.raw"]


def test_a_reflink_is_refused_where_blocks_cannot_be_shared(tmp_path: Path, xfs: Path) -> None:
    (xfs / "a.raw").write_bytes(b"x" * 65536)
    with pytest.raises(AssertionError, match="reflink"):
        perform(CopyFile("xvda", str(xfs / "a.raw"), str(tmp_path / "a.raw"), True))


def test_a_copy_keeps_holes(xfs: Path) -> None:
    with (xfs / "a.raw").open("wb") as sparse:
        sparse.truncate(64 * 2**20)
    perform(CopyFile("xvda", str(xfs / "a.raw"), str(xfs / "b.raw"), False))
    assert (xfs / "b.raw").stat().st_size == 64 * 2**20
    assert (xfs / "b.raw").stat().st_blocks < 2048


def external(folder: Path) -> tuple[FreezeName, CreateOverlay, TakePath]:
    path, frozen, new = (str(folder / name) for name in ("a.qcow2", "a.qcow2.s1", "a.qcow2.s1~new"))
    return (
        FreezeName("xvda", path, frozen),
        CreateOverlay("xvda", frozen, new, path, SIZE),
        TakePath("xvda", path, frozen, new),
    )


def test_an_overlay_takes_over_the_path_owner_and_mode_and_backs_on_the_frozen_name(tmp_path: Path) -> None:
    image = qcow2(tmp_path / "a.qcow2")
    write(image, 1)
    os.chown(image, 1234, 4321)
    image.chmod(0o600)
    was = image.stat()
    for operation in external(tmp_path):
        perform(operation)
    assert listing(tmp_path) == ["a.qcow2", "a.qcow2.s1"]
    assert (tmp_path / "a.qcow2.s1").stat().st_ino == was.st_ino
    now = image.stat()
    assert (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) == (1234, 4321, 0o600)
    run([backed_by(str(image), str(tmp_path / "a.qcow2.s1"))])
    assert holds(image, 1)
    write(image, 2)
    assert holds(tmp_path / "a.qcow2.s1", 1)


@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_an_external_snapshot_is_undone_from_wherever_it_stopped(tmp_path: Path, done: int) -> None:
    image = qcow2(tmp_path / "a.qcow2")
    write(image, 1)
    inode = image.stat().st_ino
    operations = external(tmp_path)
    for operation in operations[:done]:
        perform(operation)
    for operation in reversed(operations[:done]):
        undo(operation)
    assert listing(tmp_path) == ["a.qcow2"]
    assert image.stat().st_ino == inode
    assert holds(image, 1)


def test_undoing_twice_harms_nothing(tmp_path: Path) -> None:
    image = qcow2(tmp_path / "a.qcow2")
    write(image, 1)
    operations = external(tmp_path)
    for operation in operations:
        perform(operation)
    for _ in range(2):
        undo(operations[2])
    assert holds(image, 1)
    assert image.stat().st_ino == (tmp_path / "a.qcow2.s1").stat().st_ino


def test_the_only_name_of_the_data_is_never_removed(tmp_path: Path) -> None:
    """The frozen name goes only while it is the same file as the path."""
    operations = external(tmp_path)
    write(qcow2(tmp_path / "a.qcow2"), 1)
    for operation in operations:
        perform(operation)
    undo(operations[0])  # out of order: the path is the overlay's
    assert "a.qcow2.s1" in listing(tmp_path)


@pytest.mark.parametrize("based", [True, False])
def test_the_data_of_an_image_that_goes_is_copied_into_its_child(tmp_path: Path, based: bool) -> None:
    base, gone, child = (tmp_path / name for name in ("base.qcow2", "gone.qcow2", "child.qcow2"))
    write(qcow2(base), 1)
    write(qcow2(gone, *(("-b", base, "-F", "qcow2") if based else ())), 2, "64k")
    write(qcow2(child, "-b", gone, "-F", "qcow2"), 3, "128k")
    perform(Rebase("xvda", str(child), str(gone), str(base) if based else ""))
    gone.unlink()
    assert holds(child, 2, "64k")
    assert holds(child, 3, "128k")
    assert holds(child, 1) == based


def test_a_backing_file_of_another_name_is_noticed(tmp_path: Path) -> None:
    child = qcow2(tmp_path / "child", "-b", qcow2(tmp_path / "base.qcow2"), "-F", "qcow2")
    run([backed_by(str(child), str(tmp_path / "base.qcow2"))])
    for wrong in ("", str(tmp_path / "base"), str(tmp_path / "base-qcow2")):
        with pytest.raises(AssertionError):
            run([backed_by(str(child), wrong)])
