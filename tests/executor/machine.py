"""A small host on which generated scripts run for real: files, volumes, a domain and a QEMU that keep their state."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from executor.journal import boot, read
from executor.script import script
from planner.commands import Rename, Run, Seal
from planner.facts import Domain, Facts, Qemu
from planner.plan import Plan
from schema import spec as language
from schema.spec import Spec
from tests.executor.fakes.qemu import Graph, Server
from tests.executor.test_stream import image
from tests.planner.hosts import UUID, domain, facts, qcow2, raw, raw_on_qemu, volume

FAKE = Path(__file__).parent / "fakes" / "host"
PROGRAMS = (
    "xl", "lvs", "vgs", "lvcreate", "lvremove", "lvconvert", "lvrename", "lvchange", "qemu-img", "cp", "df", "stat",
    "cat", "readlink", "kill", "test", "mkdir", "rm", "rmdir", "ln", "mv", "sync", "sha256sum", "sleep", "zstd",
)  # fmt: skip


def _not_durable(plan: Plan, done: Collection[int]) -> Iterator[Path]:
    """Yield what a plan has written and not synced yet, by the name that it has got since."""
    commands = [(step.number in done, command) for step in plan.steps for command in step.do]
    synced = {
        command.argv[-1] for was, command in commands if was and isinstance(command, Run) and command.argv[0] == "sync"
    }
    moved = {command.source: command.target for was, command in commands if was and isinstance(command, Rename)}
    for was, command in commands:
        if isinstance(command, Seal) and not was:
            yield Path(command.image)
        if isinstance(command, Run) and command.argv[0] == "cp" and "-T" in command.argv:
            copy = command.argv[-1]
            if copy not in synced:
                yield Path(moved.get(copy, copy))


@dataclass(frozen=True, slots=True)
class Outcome:
    status: int
    said: str
    trace: tuple[str, ...]
    state: object
    guest: str
    monitor: str
    undone: tuple[int, ...]


@contextmanager
def nobody() -> Iterator[int]:
    """Yield a pipe that nobody reads any more."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


class Machine:
    """`root` holds all of it: srv (disks), store, model (what the fakes know), bin, lock; `put` sets it up anew.

    live: have specs that capture the memory live. compress: have specs that compress it. image: the guest's memory.
    """

    def __init__(self, root: Path, disks: str) -> None:
        self.root, self.model = root, root / "model"
        self.live = self.compress = False
        self.image = image()
        self.socket = root / "qmp"
        srv = root / "srv"
        kinds = {
            "q": qcow2(path=f"{srv}/web01.qcow2"), "r": raw(path=f"{srv}/data.raw"), "v": volume("xvdc", "db"),
            "t": volume("xvdd", "cache"), "l": raw_on_qemu(path=f"{srv}/log.raw"),
        }  # fmt: skip
        self.disks = tuple(kinds[letter] for letter in disks)
        self.put()

    def put(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        for name in ("srv", "store", "bin", "lock", "model/lv/vg0", "model/tags"):
            (self.root / name).mkdir(parents=True)
        for program in PROGRAMS:
            (self.root / "bin" / program).symlink_to(FAKE)
        python = self.root / "bin/python3"
        python.write_text(f'#!/bin/sh\necho $$ >"$HOST/companion"\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        for disk in self.disks:
            if not disk.volume:
                Path(disk.path).write_text(f"data of {disk.vdev}")
        for name, uuid in (("db", "4nFT6i"), ("cache", "LXkOWO")):
            (self.model / "lv/vg0" / name).write_text(f"  {uuid}\n")
        (self.model / "image").write_bytes(self.image)
        (self.model / "domain").write_text("7 running\n")
        (self.model / "monitor").write_text("S")
        self.graph = Graph({disk.vdev: disk.nodes[0].name for disk in self.disks if disk.nodes}, self.model / "tags")

    def domain(self) -> Domain:
        there = domain(*self.disks)
        if not isinstance(there.qemu, Qemu):
            return there
        return replace(there, qemu=replace(there.qemu, monitor=str(self.socket)))

    def facts(self) -> Facts:
        return self.seen(facts(self.domain()))

    def seen(self, there: Facts) -> Facts:
        """Return facts with the real inodes of the files that are there, and QEMU's real names of its nodes."""
        images = []
        for each in there.images:
            path = Path(each.path)
            about = path.stat() if path.exists() else None
            images.append(replace(each, inode=f"{about.st_dev}:{about.st_ino}" if about else ""))
        disks = []
        for disk in there.domains[0].disks:
            top = self.graph.tops.get(disk.vdev)
            nodes = (replace(disk.nodes[0], name=top), *disk.nodes[1:]) if top else disk.nodes
            disks.append(replace(disk, nodes=nodes))
        domains = (replace(there.domains[0], disks=tuple(disks)), *there.domains[1:])
        return replace(there, domains=domains, images=tuple(images))

    def spec(self, *disks: language.Disk) -> Spec:
        memory = language.Memory("live" if self.live else "paused", compress="zstd" if self.compress else None)
        return replace(Spec("web01", "before-upgrade"), store=str(self.root / "store"), memory=memory, disks=disks)

    def state(self) -> object:
        """Return all that a rollback must bring back, as it is now."""
        files = {}
        for folder in ("srv", "store", "model/lv", "model/tags"):
            for path in sorted((self.root / folder).rglob("*")):
                if path.is_file() and path.name != "journal" and path.parent.name != "applied":
                    files[str(path.relative_to(self.root))] = path.read_bytes()
        return files, self.graph.state()

    @contextmanager
    def qemu(self, fault_at: int = 0, fault: str = "", fault_call: tuple[str, int] = ("", 0)) -> Iterator[Server]:
        self.socket.unlink(missing_ok=True)
        server = Server(self.socket, self.model, self.graph)
        server.fault_at, server.fault, server.fault_call = fault_at, fault, fault_call
        try:
            yield server
        finally:
            server.close()

    def lose_power(self, plan: Plan) -> None:
        """End domain, QEMU and xl monitor, begin another boot, and lose what nothing has made durable yet."""
        (self.model / "domain").write_text("")
        (self.model / "monitor").write_text("")
        self.socket.unlink(missing_ok=True)
        journal = self.root / f"store/web01/applied/{plan.id}.jsonl"
        if journal.exists():
            for lost in _not_durable(plan, read(journal).done):
                if lost.is_file():
                    os.truncate(lost, lost.stat().st_size // 2)
            journal.write_text(journal.read_text().replace(boot(), "another-boot"))

    def ends(self, plan: Plan) -> bool:
        """Return whether the journal of a plan comes to its end."""
        journal = self.root / f"store/web01/applied/{plan.id}.jsonl"
        for _ in range(600):
            if journal.exists() and '"event":"end"' in journal.read_text():
                return True
            time.sleep(0.1)
        return False

    def printed(self, plan: Plan, shell: str) -> list[str]:
        file = self.root / "script.sh"
        file.write_text(script(plan))
        return [*shell.split(), str(file)]

    def saved(self, plan: Plan) -> list[str]:
        """Return the words that carry a plan out by domsnap itself."""
        file = self.root / "plan.json"
        file.write_text(plan.text())
        return [sys.executable, str(Path(__file__).parent / "apply_plan.py"), str(file)]

    def companion_ends(self) -> bool:
        """Return whether the companion of the last run ends, which it may do a little later than its script."""
        said = self.model / "companion"
        for _ in range(300):
            if not said.exists() or not Path("/proc", said.read_text().strip()).exists():
                said.unlink(missing_ok=True)
                return True
            time.sleep(0.1)
        return False

    def run(
        self,
        plan: Plan,
        *words: str,
        fault_at: int = 0,
        fault: str = "",
        fault_call: tuple[str, int] = ("", 0),
        also: str = "",
        shell: str = "dash",
        unread: bool = False,
        guarded: bool = False,
        largest: int = 0,
        dead: bool = False,
    ) -> Outcome:
        argv = self.printed(plan, shell) if shell else self.saved(plan)
        (self.model / "trace").write_text("")
        (self.model / "failed").unlink(missing_ok=True)
        environment = {
            "DOMSNAP_PATH": f"{self.root}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DOMSNAP_RUN": str(self.root / "lock"),
            "HOST": str(self.model), "NAME": "web01", "UUID": UUID, "FAULT_AT": str(fault_at), "FAULT": fault,
            "PYTHONPATH": str(Path(__file__).parents[2]), "FAULT_CALL": fault_call[0],
            "FAULT_NTH": str(fault_call[1]), "ALSO": also, "PATH": "/usr/bin:/bin", "LARGEST_FILE": str(largest),
        }  # fmt: skip
        start = ("sh", "-c", 'echo $$ >"$HOST/pid"; exec "$@"', "sh", *argv, *words)
        # A file, not a pipe: what a killed script leaves behind may hold a pipe open.
        with (
            nullcontext() if dead else self.qemu(fault_at, fault, fault_call),
            (self.root / "said").open("w") as file_said,
            nobody() as pipe,
        ):
            done = subprocess.run(
                start, stdout=subprocess.PIPE, stderr=pipe if unread else file_said, text=True, env=environment,
                check=False, timeout=120,
            )  # fmt: skip
            assert not guarded or self.ends(plan), "the guardian does not come to an end"
        assert done.stdout == ""
        assert self.companion_ends(), "the companion has outlived its script"
        told = (self.root / "said").read_text()
        (_, guest) = ((self.model / "domain").read_text().split() or ["", "gone"])[-2:]
        undone = tuple(int(line.split()[-1]) for line in told.splitlines() if line.startswith("  undoing step "))
        return Outcome(
            done.returncode, told, tuple((self.model / "trace").read_text().splitlines()), self.state(), guest,
            (self.model / "monitor").read_text().strip(), undone,
        )  # fmt: skip
