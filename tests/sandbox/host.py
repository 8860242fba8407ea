"""A stand-in Xen host in a folder: disks, xl and its like, domains that run, a way to look into memory and disks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self
from unittest.mock import patch

from executor import observe
from executor.look.host import observe as look
from executor.script import script
from planner import facts as observed
from planner.facts import Facts, Process, Record
from planner.plan import Plan
from tests.sandbox import domains, guest, peek, qemu
from tests.sandbox.domains import Domain
from tests.sandbox.guest import Instant, Mark

UUID = "bbe9b839-51d1-4ac0-8ea2-25778e7005b1"
MEBIBYTE = 2**20
_REPOSITORY = Path(__file__).parents[2]
_PROGRAM = """#!{python} -IS
import sys
sys.path.insert(0, {repository!r})
from tests.sandbox.xl import main
sys.exit(main(sys.argv))
"""
_LVM = """#!/bin/sh
case "$(basename "$0") $*" in
lvm*) echo '  LVM version:     2.03.16(2) (2022-05-18)' ;;
lvs*--reportformat*) echo '{"report": [{"lv": []}]}' ;;
vgs*--reportformat*) echo '{"report": [{"vg": []}]}' ;;
*)
  echo '  Volume group "vg0" not found' >&2
  exit 5
  ;;
esac
"""
# kind -> format, backend: of the method that suits each
KINDS = {"qcow2": ("qcow2", ""), "raw": ("raw", ""), "job": ("raw", "qdisk")}
_DEADLINE = 60.0


class Sandbox:
    """A host with its own folder (root), where disks lie in `srv` and snapshots in `store`.

    xen: its version. srv: where the disks are to lie instead, to have them on a filesystem of one's own. Every process
    that it started is ended when the context is left.
    """

    def __init__(self, xen: str = "4.17.7", srv: Path | None = None, **host: object) -> None:
        # Short: the path of a socket has at most 107 bytes.
        self.root = Path(tempfile.mkdtemp(prefix="domsnap-"))
        self.srv = srv or self.root / "srv"
        self.store = self.root / "store"
        for name in ("bin", "lib", "run", "log", "domains", "srv", "store", "lock"):
            (self.root / name).mkdir(exist_ok=True)
        self.tell(xen=xen, **host)
        program = _PROGRAM.format(python=sys.executable, repository=str(_REPOSITORY))
        for name, text in (
            ("xl", program),
            ("xenstore-ls", program),
            *((name, _LVM) for name in ("lvm", "lvs", "vgs")),
        ):
            (self.root / "bin" / name).write_text(text)
            (self.root / "bin" / name).chmod(0o755)
        shutil.copy("/bin/sleep", self.root / "lib" / "xl")
        self.environment = {
            "DOMSNAP_PATH": f"{self.root}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DOMSNAP_RUN": f"{self.root}/lock",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process that has to do with this folder, newest first, and remove the folder."""
        for _ in range(3):
            for pid in sorted(self.processes(), reverse=True):
                qemu.end(pid, signal.SIGKILL)
        assert not self.processes()
        shutil.rmtree(self.root)

    def processes(self) -> list[int]:
        """Return the processes, but for this one, whose program or command line lies in this folder."""
        found = []
        for name in filter(str.isdecimal, os.listdir("/proc")):
            try:
                words = Path("/proc", name, "cmdline").read_text(errors="replace") + os.readlink(f"/proc/{name}/exe")
            except OSError:
                continue
            if f"{self.root}/" in words and int(name) != os.getpid() and qemu.stat(int(name)):
                found.append(int(name))
        return found

    def tell(self, **host: object) -> None:
        """Change what host.json says: see tests/sandbox/toolstack.py."""
        file = self.root / "host.json"
        said = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**said, **host}))

    def hang(self, command: str) -> None:
        """Have the next call of an xl command hang before it does anything."""
        (self.root / f"hang-{command}").touch()

    # --- domains

    def xl(self, *words: str, fails: int = 0) -> str:
        """Run xl, which must exit with `fails`, and return what it printed and said."""
        done = subprocess.run(
            [str(self.root / "bin" / "xl"), *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False, timeout=_DEADLINE,
        )  # fmt: skip
        assert done.returncode == fails, (words, done.returncode, done.stdout)
        return done.stdout

    def disk(self, name: str, form: str = "qcow2", size: int = MEBIBYTE) -> Path:
        """Make an image from which the guest can start; size in bytes, at least guest.LEAST."""
        path = self.srv / name
        start = self.root / "boot-sector"
        start.write_bytes(guest.boot_sector())
        peek.run("qemu-img", "create", "-q", "-f", form, str(path), str(size))
        peek.run("qemu-io", "-f", form, "-c", f"write -q -s {start} 0 {guest.SECTOR}", str(path))
        return path

    def configure(self, name: str, disks: Mapping[str, str], *, kind: str = "pvh", **other: object) -> Path:
        """Make the disks of a domain, vdev -> one of KINDS, and its xl.cfg; return the path of that."""
        specs = []
        for vdev, what in disks.items():
            form, backend = KINDS[what]
            path = self.disk(f"{name}-{vdev}.{form}", form)
            served = f"backendtype={backend}, " if backend else ""
            specs.append(f"format={form}, vdev={vdev}, {served}access=w, target={path}")
        said = {"name": name, "uuid": UUID, "type": kind, "memory": 8, "disk": specs, **other}
        file = self.root / f"{name}.cfg"
        file.write_text("".join(f"{key} = {value!r}\n" for key, value in said.items()))
        return file

    def create(self, name: str, disks: Mapping[str, str], *, kind: str = "pvh", **other: object) -> Domain:
        """Create a domain, and come back when its guest counts."""
        self.xl("create", str(self.configure(name, disks, kind=kind, **other)))
        self.runs_on(name, 0)
        return self.domain(name)

    def domain(self, name: str) -> Domain:
        found = domains.find(self.root, name)
        assert found, f"there is no domain {name}"
        return found

    def mark(self, name: str) -> Mark:
        """Read the guest's page, at whatever instant."""
        mark = peek.mark(self.domain(name))
        assert mark, "the guest does not count yet"
        return mark

    def runs_on(self, name: str, rounds: int = 2) -> None:
        """Wait until the guest has counted on, and has written to all its disks meanwhile. The rounds of a guest that
        is still starting are told from its first count on: it goes on from what its first disk holds."""
        start, limit = None, time.monotonic() + _DEADLINE
        while not ((now := peek.mark(self.domain(name))) and start is not None and now.counter > start + rounds):
            if start is None and now:
                start = now.counter
            assert time.monotonic() < limit, f"the guest of {name} stands still at {now}"
            time.sleep(0.01)

    def instant(self, name: str) -> Instant:
        """Read memory and disks, as the guest itself would, while it stands still; it is let go again if it ran."""
        return peek.instant(self.domain(name))

    def content(self, path: Path, tag: str = "") -> bytes:
        """Return what a guest would read of an image, or of an internal snapshot in it. One that is open for writing
        must be flushed."""
        return peek.content(path, tag)

    def kept(self, record: Record) -> Instant:
        """Return the instant that a snapshot holds: of its memory image, and of what it keeps of each disk."""
        return peek.kept(record)

    def lasting(self, name: str) -> str:
        """Say what is wrong with the disks of a domain, as a guest would find them that was started from its
        configuration now; "" if nothing."""
        domain = self.domain(name)
        with peek.flushed(domain):
            for disk in domain.config["disks"]:
                wrong = guest.damage(self.content(Path(disk["pdev_path"])))
                if wrong:
                    return f"{disk['vdev']}: {wrong}"
        return ""

    def hurt(self, *, leaks: bool = False) -> str:
        """Say which image is not sound in itself, "" if all are; no QEMU may have any of them open.

        leaks: room that nothing uses is no harm; a QEMU that was killed leaves some."""
        for path in sorted(self.srv.glob("*.qcow2*")):
            done = subprocess.run(["qemu-img", "check", str(path)], capture_output=True, text=True, check=False)
            if done.returncode not in ((0, 3) if leaks else (0,)):
                return f"{path}: {done.stdout}{done.stderr}"
        return ""

    def files(self) -> set[str]:
        """Return all files of the disks' folder and the store, but for the journals of stores."""
        folders = ((self.srv, "srv"), (self.store, "store"))
        paths = ((f"{name}/{path.relative_to(top)}", path) for top, name in folders for path in top.rglob("*"))
        return {name for name, path in paths if path.is_file() and path.name != "journal"}

    # --- domsnap

    def facts(self, *names: str) -> Facts:
        """Return what domsnap sees of this host. Of another host's domain of the same name, on the same machine at the
        same time, it may see the xl monitor: here it is always our own."""
        with patch.dict(os.environ, self.environment):
            seen = observe.facts(look(names, [str(self.store)]))
        return replace(seen, domains=tuple(self._our_own(each) for each in seen.domains))

    def _our_own(self, seen: observed.Domain) -> observed.Domain:
        there = domains.find(self.root, str(seen.domid))
        if not (there and domains.alive(there.monitor)):
            return replace(seen, xl_monitor=None)
        return replace(seen, xl_monitor=Process(there.monitor[0], there.monitor[1], str(self.root / "lib" / "xl")))

    def apply(self, plan: Plan, *words: str, status: int = 0) -> str:
        """Run the plan's printed script, which must exit with `status`, and return what it said."""
        file = self.root / "script.sh"
        file.write_text(script(plan))
        done = subprocess.run(
            ["dash", str(file), *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False, timeout=300, env=self.environment,
        )  # fmt: skip
        assert done.returncode == status, f"exit status {done.returncode}: {done.stdout}"
        return done.stdout
