"""A dom0 as a model: it runs the commands of a plan one by one and knows nothing of operations."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from planner.commands import AwaitJob, Command, Qmp, Release, Rename, Run, Seal, Write, canonical
from tests.model.disks import BLOCKS, Blocks, Files, Volume, over
from tests.model.qemu import Qemu, Trouble

NAME, UUID = "web01", "bbe9b839-51d1-4ac0-8ea2-25778e7005b1"
STORE = "/var/lib/domsnap"


class Failed(Exception):
    """A command of the plan failed."""


class Host:
    """One domain, its disks, its store. `kinds` of disks: qcow2, raw (phy), job (raw on QEMU), thick and thin."""

    def __init__(self, kinds: dict[str, str]) -> None:
        self.kinds = kinds
        self.files = Files()
        self.volumes: dict[str, Volume] = {"pool": Volume("pool", "thin-pool", "u-pool", [])}
        self.made = 0
        self.domid: int | None = None
        self.next_domid = 1
        self.ram = 0
        self.state = "off"
        self.qemu: Qemu | None = None
        self.held = False
        for vdev, kind in kinds.items():
            if kind in ("thick", "thin"):
                self._volume(f"lv-{vdev}", "linear" if kind == "thick" else "thin", [0] * BLOCKS)
            else:
                self.files.make(self.path(vdev), "qcow2" if kind == "qcow2" else "raw", [0] * BLOCKS)
        self.start(0)

    def _volume(self, name: str, kind: str, blocks: Blocks, origin: str = "") -> Volume:
        self.made += 1
        self.volumes[name] = Volume(name, kind, f"u-{self.made}", list(blocks), origin)
        return self.volumes[name]

    def path(self, vdev: str) -> str:
        kind = self.kinds[vdev]
        return (
            f"/dev/vg0/lv-{vdev}"
            if kind in ("thick", "thin")
            else f"/srv/vm/{vdev}.{'qcow2' if kind == 'qcow2' else 'raw'}"
        )

    def served(self) -> dict[str, str]:
        return {vdev: self.path(vdev) for vdev, kind in self.kinds.items() if kind in ("qcow2", "job")}

    # --- the guest and the people around it

    def start(self, ram: int) -> None:
        assert self.domid is None
        self.domid, self.next_domid, self.ram, self.state = self.next_domid, self.next_domid + 1, ram, "-b----"
        self.qemu = Qemu(self.files, self.served())

    def stop(self) -> None:
        self.domid, self.qemu, self.state, self.ram = None, None, "off", 0

    def write(self, value: int) -> None:
        """Let the guest write `value` into its memory and one block of every disk."""
        self.ram = value
        for vdev in self.kinds:
            self.blocks(vdev)[value % BLOCKS] = value

    def blocks(self, vdev: str) -> Blocks:
        if self.kinds[vdev] in ("thick", "thin"):
            return self.volumes[f"lv-{vdev}"].blocks
        if self.qemu and vdev in self.qemu.roots:
            return self.qemu.root(vdev).inode.blocks
        return self.files.names[self.path(vdev)].blocks

    def seen(self, vdev: str) -> list[int]:
        """Return a disk as its guest reads it now."""
        if self.qemu and vdev in self.qemu.roots:
            return self.qemu.root(vdev).read()
        return self.lasting(vdev)

    def lasting(self, vdev: str) -> list[int]:
        """Return a disk as a guest would read it that was started from its configuration now."""
        if self.kinds[vdev] in ("thick", "thin"):
            return [block or 0 for block in self.volumes[f"lv-{vdev}"].blocks]
        return self.files.read(self.path(vdev))

    # --- commands

    def do(self, command: Command) -> None:
        """Run one command; raises Failed."""
        match command:
            case Run():
                self._run_command(command)
            case Qmp():
                self._qmp(command)
            case AwaitJob():
                self._await(command)
            case Seal(image=image, digest=digest):
                if self.files.names[image].kind != "memory":
                    raise Failed(image)
                if digest:
                    self.files.make(digest, "text")
            case Write(path=path, text=text):
                if path in self.files.names:
                    raise Failed(path)
                self.files.make(path, "text", text=text)
            case Rename(source=source, target=target):
                if source not in self.files.names:
                    raise Failed(source)
                if self.files.names.get(target) is not self.files.names[source]:
                    self.files.names[target] = self.files.names.pop(source)
            case Release():
                pass
            case _:
                raise AssertionError(command)

    def _run_command(self, command: Run) -> None:
        if command.when and self.run(command.when)[0] != 0:
            return
        if command.unless and self.run(command.unless)[0] == 0:
            return
        status, out, err = self.run(command.argv)
        lines = out.splitlines()
        fine = status == command.status
        fine = fine and (not command.prints or any(re.search(command.prints, line) for line in lines))
        fine = fine and not (command.lacks and any(re.search(command.lacks, line) for line in lines))
        if not fine and not (
            command.tolerates and any(re.search(command.tolerates, line) for line in err.splitlines())
        ):
            raise Failed(f"{command.argv}: {status} {out!r} {err!r}")

    def _qmp(self, command: Qmp) -> None:
        if self.qemu is None:
            raise Failed("no QEMU")
        if command.when and not re.search(command.when[1], canonical(self.qemu.send(command.when[0], {}))):
            return
        try:
            text = canonical(self.qemu.send(command.execute, dict(command.arguments)))
        except Trouble as trouble:
            wanted = command.error or command.tolerates
            if not (wanted and re.search(wanted, str(trouble))):
                raise Failed(str(trouble)) from None
            return
        if command.error or (command.prints and not re.search(command.prints, text)):
            raise Failed(f"{command}: {text}")
        if command.lacks and re.search(command.lacks, text):
            raise Failed(f"{command}: {text}")

    def _await(self, command: AwaitJob) -> None:
        if self.qemu is None:
            raise Failed("no QEMU")
        job = self.qemu.jobs.get(command.job)
        if job is None:
            if not command.optional:
                raise Failed(command.job)
            return
        if command.pending:
            assert job["status"] == "pending"
            return
        if job["status"] == "ready" and command.complete:
            self.qemu.send("job-complete", {"id": command.job})
        assert job["status"] == "concluded", job
        self.qemu.send("job-dismiss", {"id": command.job})

    def run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        """Return (exit status, output, errors) of a program; raises AssertionError for words that are not modelled."""
        program = getattr(self, f"_{argv[0].replace('-', '_')}", None)
        assert program, f"the model knows no program {argv[0]}"
        done = program(*argv[1:])
        return done if isinstance(done, tuple) else (done or 0, "", "")

    def _xl(self, verb: str, *words: str) -> Any:
        match verb, words:
            case "info", ():
                return 0, "free_memory            : 999999\n", ""
            case "list", ("-v",):
                row = f"{NAME:40} {self.domid or 0:5} 1024 1 {self.state} 9.8 {UUID}\n"
                return 0, "Name ID\n" + (row if self.domid is not None else ""), ""
            case "domid", ("--", name):
                return (0, f"{self.domid}\n", "") if self.domid is not None and name == NAME else 1
            case "save", ("-p", "--", number, path):
                if str(self.domid) != number or self.state != "-b----":
                    return 1
                self.files.make(path, "memory", ram=self.ram)
                self.state = "--p---"
            case "save", ("--", number, path):
                if str(self.domid) != number or self.state != "-b----":
                    return 1
                self.files.make(path, "memory", ram=self.ram)
                self.stop()
            case "unpause", ("--", number):
                if str(self.domid) == number and self.state == "--p---":
                    self.state = "-b----"
            case "destroy", ("--", who):
                if self.domid is None or who not in (NAME, str(self.domid)):
                    return 1
                self.stop()
            case "restore", ("--", path):
                if self.domid is not None or path not in self.files.names:
                    return 1
                self.start(self.files.names[path].ram)
            case _:
                raise AssertionError((verb, words))
        return 0

    def _test(self, *words: str) -> int:
        names = self.files.names
        match words:
            case ("!", "-L", _):
                return 0
            case ("!", "-e", path):
                return int(path in names or path in self.files.folders)
            case ("!", "-d", path):
                return int(path in self.files.folders or (path == "/proc/1452" and self.qemu is not None))
            case ("-e" | "-f" | "-s", path):
                return int(path not in names)
            case ("-d", path):
                return int(path not in self.files.folders and not path.startswith("/proc/14"))
            case (one, "-ef", other):
                return int(names.get(one) is None or names.get(one) is not names.get(other))
        raise AssertionError(words)

    def _ln(self, *words: str) -> int:
        force = words[0] == "-f"
        source, target = words[-2:]
        if source not in self.files.names or (target in self.files.names and not force):
            return 1
        self.files.names[target] = self.files.names[source]
        return 0

    def _rm(self, *words: str) -> int:
        paths = words[words.index("--") + 1 :]
        if "-f" not in words and any(path not in self.files.names for path in paths):
            return 1
        for path in paths:
            self.files.names.pop(path, None)
        return 0

    def _mkdir(self, *words: str) -> int:
        path = words[-1]
        if path in self.files.folders and "-p" not in words:
            return 1
        self.files.folders.add(path)
        return 0

    def _rmdir(self, *words: str) -> int:
        path = words[-1]
        if path not in self.files.folders or any(name.startswith(f"{path}/") for name in self.files.names):
            return 1
        self.files.folders.remove(path)
        return 0

    def _cp(self, *words: str) -> int:
        source, target = words[-2:]
        if source not in self.files.names:
            return 1
        if "--attributes-only" in words:
            return int(target not in self.files.names)
        assert self.files.names[source].kind == "raw"
        self.files.make(target, "raw", self.files.names[source].blocks)
        return 0

    def _stat(self, *words: str) -> Any:
        inode = self.files.names.get(words[-1])
        return (0, f"1:{inode.number}\n", "") if inode else 1

    def _sync(self, *_: str) -> int:
        return 0

    def _df(self, *_: str) -> Any:
        return 0, f"Avail\n{10**15}\n", ""

    def _vgs(self, *_: str) -> Any:
        return 0, f"  {10**15}\n", ""

    def _sha256sum(self, *words: str) -> int:
        return int(words[-1] not in self.files.names)

    def _kill(self, *words: str) -> int:
        self.held = words[1] == "STOP"
        return 0

    def _cat(self, path: str) -> Any:
        return 0, f"1400 (xl) {'T' if self.held else 'S'} {'1 ' * 18}87000 0\n", ""

    def _readlink(self, path: str) -> Any:
        return 0, "/usr/lib/xen-4.17/bin/xl\n", ""

    def _free(self, path: str) -> None:
        """Hold that no QEMU has an image open that qemu-img is about to write to: nothing but we ourselves would."""
        assert self.qemu is None or self.files.names[path].number not in self.qemu.inodes(), f"{path} is in use"

    def _qemu_img(self, verb: str, *words: str) -> Any:
        files = self.files
        match verb, words:
            case "create", ("-q", "-u", "-f", "qcow2", "-b", backing, "-F", "qcow2", "--", path, _):
                files.make(path, "qcow2", backing=backing)
            case "create", ("-q", "-f", "raw", "--", path, _):
                files.make(path, "raw", [0] * BLOCKS)
            case "snapshot", ("-c", tag, "--", path):
                self._free(path)
                files.names[path].tags[tag] = list(files.names[path].blocks)
            case "snapshot", ("-a", tag, "--", path):
                self._free(path)
                if tag not in files.names[path].tags:
                    return 1, "", "snapshot not found"
                files.names[path].blocks = list(files.names[path].tags[tag])
            case "snapshot", ("-d", tag, "--", path):
                self._free(path)
                if files.names[path].tags.pop(tag, None) is None:
                    return 1, "", "snapshot not found"
            case "convert", ("-U", "-l", name, "-f", "qcow2", "-O", "qcow2", "--", path, new):
                content = files.read(path, name.removeprefix("snapshot.name="))
                files.make(new, "qcow2", [*content])
            case "rebase", ("-q", "-f", "qcow2", "-b", base, *_, path):
                self._free(path)
                inode, below = files.names[path], files.names[files.names[path].backing]
                keep: Blocks = list(inode.blocks)
                while below is not files.names.get(base):
                    keep = over(keep, below.blocks)
                    if not below.backing:
                        break
                    below = files.names[below.backing]
                inode.blocks, inode.backing = keep, base
            case "info", ("-U", "--output=json", "--", path):
                inode = files.names[path]
                said: dict[str, Any] = {"snapshots": [{"name": tag} for tag in inode.tags]}
                if inode.backing:
                    said["backing-filename"] = inode.backing
                return 0, json.dumps(said, indent=4), ""
            case _:
                raise AssertionError((verb, words))
        return 0

    def _lvs(self, *words: str) -> Any:
        volume = self.volumes.get(words[-1].removeprefix("vg0/"))
        if volume is None:
            return 5
        if "lv_uuid" in words:
            return 0, f"  {volume.uuid}\n", ""
        return 0, ("  open\n" if self.domid is not None and volume.name in self._in_use() else "  \n"), ""

    def _in_use(self) -> set[str]:
        return {f"lv-{vdev}" for vdev, kind in self.kinds.items() if kind in ("thick", "thin")}

    def _lvcreate(self, *words: str) -> int:
        name, origin = words[words.index("--name") + 1], words[-1].removeprefix("vg0/")
        if name in self.volumes or origin not in self.volumes:
            return 5
        thick = "--size" in words
        assert (self.volumes[origin].kind == "linear") == thick
        made = self._volume(name, "thick-snapshot" if thick else "thin", self.volumes[origin].blocks, origin)
        if thick:
            made.size = int(words[words.index("--size") + 1].removesuffix("b"))
            assert made.size % 512 == 0
        if "--addtag" in words:
            made.tags.add(words[words.index("--addtag") + 1])
        return 0

    def _lvremove(self, *words: str) -> int:
        if "--select" in words:
            name, tag = re.findall(r'"([^"]+)"', words[words.index("--select") + 1])
            chosen = [v.name for v in self.volumes.values() if v.name == name and tag in v.tags]
        else:
            chosen = [words[-1].removeprefix("vg0/")]
            if chosen[0] not in self.volumes:
                return 5
        for each in chosen:
            if self.domid is not None and each in self._in_use():
                return 5
            del self.volumes[each]
        return 0

    def _lvrename(self, _: str, vg: str, old: str, new: str) -> int:
        if old not in self.volumes or new in self.volumes:
            return 5
        volume = self.volumes.pop(old)
        volume.name = new
        self.volumes[new] = volume
        for other in self.volumes.values():
            other.origin = new if other.origin == old else other.origin
        return 0

    def _lvchange(self, how: str, tag: str, _: str, name: str) -> int:
        volume = self.volumes.get(name.removeprefix("vg0/"))
        if volume is None:
            return 5
        (volume.tags.add if how == "--addtag" else volume.tags.discard)(tag)
        return 0

    def _lvconvert(self, *words: str) -> int:
        name = words[-1].removeprefix("vg0/")
        if name not in self.volumes:
            return 5
        volume = self.volumes[name]
        if self.domid is not None:
            return 0  # only scheduled: the origin is open
        self.volumes[volume.origin].blocks = list(volume.blocks)
        del self.volumes[name]
        return 0

    def _lvextend(self, *words: str) -> int:
        self.volumes[words[-1].removeprefix("vg0/")].size = int(words[1].removesuffix("b"))
        return 0

    def copy(self) -> Host:
        return deepcopy(self)
