"""What an administrator does with snapshots of a domain, by `apply` or by printed scripts, and what must hold then."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from tests.xen.dom0 import Dom0
from tests.xen.domain import Domain

STORE = "/var/lib/domsnap"
PAGE = "domsnap guest pg"  # how the guest's page begins, in its memory
Stopped = dict[str, list[float]]  # verb -> how long the guest stood still, each time, in seconds
Disks = Mapping[str, tuple[str, str]]  # vdev -> kind of disk, method

# Xen's own look at a memory image.
CHECKER = "PYTHONPATH=$(echo /usr/lib/xen-*/lib/python) python3 $(echo /usr/lib/xen-*/bin/verify-stream-v2) -f xl"
_STOOD = re.compile(r"it stood still for (at least )?([0-9.]+) s")


class Story:
    """A domain that runs. way: apply, script, live (by apply, and memory is captured live), or live script; any of them
    with compressed, which scripts only read."""

    def __init__(self, dom0: Dom0, name: str, kind: str, disks: Disks, way: str, *, dirty: int = 0) -> None:
        self.dom0, self.disks, self.way = dom0, disks, way
        self.before = self.left()
        self.domain = Domain(dom0, name, kind, {vdev: what for vdev, (what, _) in disks.items()}, dirty=dirty)
        self.at: dict[str, int] = {}  # snapshot -> what its memory image says the guest had counted to
        self.stopped: Stopped = {}
        self.walked: set[str] = set()  # whose memory image Xen's own checker has passed; none of them ever changes
        self.domain.create()
        self.domain.whole()

    def command(self, verb: str, snapshot: str, *more: str) -> str:
        """Write the spec; return the command that carries a verb out: create, revert or delete."""
        methods = "".join(f"  {vdev}: {method}\n" for vdev, (_, method) in self.disks.items())
        text = f"version: 1\ndomain: {self.domain.name}\nsnapshot: {snapshot}\ndisks:\n{methods}"
        text += f"memory: {{capture: {'live' if 'live' in self.way else 'paused'}"
        text += ", compress: zstd}\n" if "compressed" in self.way else "}\n"
        file = f"/root/{self.domain.name}-{snapshot}.yaml"
        self.dom0.put(file, text)
        words = " ".join([file, *([] if verb == "create" else [f"--{verb}"]), *more])
        if "script" not in self.way:
            return f"domsnap apply {words} --yes"
        return f"domsnap script {words} -o /root/script.sh && dash /root/script.sh"

    def do(self, verb: str, snapshot: str, *more: str, status: int | None = 0) -> str:
        return self.dom0.ask(self.command(verb, snapshot, *more), status=status)

    def take(self, snapshot: str) -> None:
        before = self.domain.whole().count
        seen = len(self.domain.lines())
        said = self.do("create", snapshot)
        after = self.domain.whole(lines=5).count
        self.at[snapshot] = self.held(snapshot)
        assert before <= self.at[snapshot] <= after
        # By the guest's clock, which goes on while it is suspended. What domsnap says is never less, but for the time
        # that a guest which runs waits for an emulated processor; of a live capture it says what it was at least.
        gap = max(line.gap for line in self.domain.lines()[seen:]) / 1000
        self.stopped.setdefault("create", []).append(gap)
        if own := _STOOD.search(said):
            assert float(own[2]) < gap + 1 if own[1] else gap < float(own[2]) + 2, (own[0], gap)

    def image(self, snapshot: str) -> str:
        """Return the path of a snapshot's memory image: by its record, since it may have been made smaller. Of a
        domain that was off it is empty."""
        record = json.loads(self.dom0.ask(f"cat {STORE}/{self.domain.name}/{snapshot}/record.json"))
        return str(record["memory"])

    def plain(self, snapshot: str) -> str:
        """Return the path of a snapshot's memory image as xl takes it: a compressed one is decompressed beside all."""
        image = self.image(snapshot)
        if not image.endswith(".zst"):
            return image
        self.dom0.ask(f"zstd -dqf {image} -o /srv/plain")
        return "/srv/plain"

    def held(self, snapshot: str) -> int:
        """Return what the guest had counted to, by the memory image of a snapshot."""
        image = self.plain(snapshot)
        where = f"at=$(grep -abo '{PAGE}' {image} | tail -n 1 | cut -d : -f 1)"
        said = self.dom0.ask(f"{where}; dd if={image} bs=1 skip=$((at + 16)) count=8 status=none | od -An -tu8")
        return int(said) >> 8

    def back(self, snapshot: str, *more: str) -> None:
        """Go back; the present is kept, unless --discard-current says otherwise."""
        running = "running" in self.state()
        lines = self.domain.lines()
        if own := _STOOD.search(self.do("revert", snapshot, *more)):
            self.stopped.setdefault("revert", []).append(float(own[2]))
        first = self.domain.fell(len(lines)) if running else self.domain.next(len(lines))
        assert self.at[snapshot] <= first.count
        assert first.start <= self.at[snapshot]
        self.domain.whole(lines=3)
        if running and "--discard-current" not in more:
            kept = max(
                (name for name in self.snapshots() if name.startswith("pre-revert-")), key=lambda name: int(name[11:])
            )
            self.at[kept] = self.held(kept)
            assert self.at[kept] >= lines[-1].count

    def delete(self, snapshot: str) -> None:
        self.do("delete", snapshot)
        self.at.pop(snapshot, None)
        self.walked.discard(snapshot)
        if "running" in self.state():
            self.domain.whole()

    def delete_all(self) -> None:
        """Delete what there is, the newest first: what others are based on can go after them alone."""
        for snapshot in reversed(self.snapshots()):
            self.delete(snapshot)

    def state(self) -> str:
        """Say running or off."""
        return "running" if self.domain.name in self.dom0.ask("xl list") else "off"

    def off(self) -> None:
        self.dom0.ask(f"xl destroy {self.domain.name}")

    def on(self) -> None:
        self.domain.again()

    def snapshots(self) -> list[str]:
        said = self.dom0.ask(f"cd {STORE}/{self.domain.name} 2>&- && ls -tr */record.json", status=None)
        return [line.partition("/")[0] for line in said.splitlines() if line.endswith("/record.json")]

    def left(self) -> dict[str, str]:
        """Return what there is on the host, as far as snapshots could leave something behind."""
        ours = "-path '*/applied/*' -o -name current -o -name journal"  # documented to stay: the last, of scripts
        asked = {
            "files": f"find /srv/vm /srv/xfs {STORE} -type f ! '(' {ours} ')' 2>&-",
            "volumes": "lvs --noheadings -o name,origin,tags vg0 | sort", "domains": "xl list | cut -d ' ' -f 1",
            "stopped": "ps -eo stat,args | grep '^T' | grep -v ' sshd' ", "loops": "losetup -l -n -O back-file | sort",
        }  # fmt: skip
        said = self.dom0.ask("; echo ---; ".join(asked.values()), status=None).split("---\n")
        return dict(zip(asked, said, strict=True))

    def sound(self) -> None:
        """Hold that all that is stored is sound: by domsnap's own look, and by Xen's and QEMU's."""
        self.dom0.ask(f"domsnap verify {self.domain.name}")
        for snapshot in self.snapshots():
            if snapshot in self.walked:
                continue
            self.walked.add(snapshot)
            # From a file: of a pipe it takes what there is at the moment for all that there is.
            if image := self.plain(snapshot):
                self.dom0.ask(f"{CHECKER} <{image}")

    def end(self) -> None:
        """End the domain and its disks; nothing else may be left of it."""
        self.domain.whole()
        self.off()
        images = [path for vdev, path in self.domain.paths.items() if self.disks[vdev][0] == "qcow2"]
        for path in images:
            said = self.dom0.ask(f"qemu-img check {path} && qemu-img info {path}")
            assert "backing file" not in said
            assert "Snapshot list" not in said
        self.domain.remove()
        left = self.left()
        differs = {what: (self.before[what], said) for what, said in left.items() if said != self.before[what]}
        assert not differs, differs
