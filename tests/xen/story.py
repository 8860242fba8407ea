"""What an administrator does with snapshots of a domain, by `apply` or by printed scripts, and what must hold then."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tests.xen.dom0 import Dom0
from tests.xen.domain import Domain

STORE = "/var/lib/domsnap"
PAGE = "domsnap guest pg"  # how the guest's page begins, in its memory
Disks = Mapping[str, tuple[str, str]]  # vdev -> kind of disk, method


class Story:
    """A domain that runs. way: apply, or script."""

    def __init__(self, dom0: Dom0, name: str, kind: str, disks: Disks, way: str) -> None:
        self.dom0, self.disks, self.way = dom0, disks, way
        self.before = self.left()
        self.domain = Domain(dom0, name, kind, {vdev: what for vdev, (what, _) in disks.items()})
        self.at: dict[str, int] = {}  # snapshot -> what its memory image says the guest had counted to
        self.domain.create()
        self.domain.whole()

    def command(self, verb: str, snapshot: str, *more: str) -> str:
        """Write the spec; return the command that carries a verb out: create, revert or delete."""
        methods = "".join(f"  {vdev}: {method}\n" for vdev, (_, method) in self.disks.items())
        text = f"version: 1\ndomain: {self.domain.name}\nsnapshot: {snapshot}\ndisks:\n{methods}"
        file = f"/root/{self.domain.name}-{snapshot}.yaml"
        self.dom0.put(file, text)
        words = " ".join([file, *([] if verb == "create" else [f"--{verb}"]), *more])
        if self.way == "apply":
            return f"domsnap apply {words} --yes"
        return f"domsnap script {words} -o /root/script.sh && dash /root/script.sh"

    def do(self, verb: str, snapshot: str, *more: str, status: int = 0) -> str:
        return self.dom0.ask(self.command(verb, snapshot, *more), status=status)

    def take(self, snapshot: str) -> None:
        before = self.domain.whole().count
        self.do("create", snapshot)
        after = self.domain.whole(lines=5).count
        self.at[snapshot] = self.held(snapshot)
        assert before <= self.at[snapshot] <= after

    def held(self, snapshot: str) -> int:
        """Return what the guest had counted to, by the memory image of a snapshot."""
        image = f"{STORE}/{self.domain.name}/{snapshot}/memory"
        where = f"at=$(grep -abo '{PAGE}' {image} | tail -n 1 | cut -d : -f 1)"
        said = self.dom0.ask(f"{where}; dd if={image} bs=1 skip=$((at + 16)) count=8 status=none | od -An -tu8")
        return int(said) >> 8

    def back(self, snapshot: str, *more: str) -> None:
        """Go back; the present is kept, unless --discard-current says otherwise."""
        running = "running" in self.state()
        lines = self.domain.lines()
        self.do("revert", snapshot, *more)
        first = self.domain.next(len(lines))
        if running:
            assert lines[-1].count > self.at[snapshot] + 8, "the guest has not gone on long enough to tell"
            assert first.count < lines[-1].count, (first, lines[-1])
        assert self.at[snapshot] <= first.count
        assert first.start <= self.at[snapshot]
        self.domain.whole(lines=3)
        if running and "--discard-current" not in more:
            kept = max(
                (name for name in self.snapshots() if name.startswith("pre-revert-")), key=lambda name: int(name[11:])
            )
            self.at[kept] = self.held(kept)
            assert self.at[kept] >= lines[-1].count - 1

    def delete(self, snapshot: str) -> None:
        self.do("delete", snapshot)
        self.at.pop(snapshot, None)
        if "running" in self.state():
            self.domain.whole()

    def state(self) -> str:
        """Say running or off."""
        return "running" if self.domain.name in self.dom0.ask("xl list") else "off"

    def off(self) -> None:
        self.dom0.ask(f"xl destroy {self.domain.name}")

    def on(self) -> None:
        self.domain.again()

    def snapshots(self) -> list[str]:
        shown = json.loads(self.dom0.ask(f"domsnap list {self.domain.name} --json"))
        return [each["snapshot"] for shelf in shown["domains"] for each in shelf["snapshots"]]

    def left(self) -> dict[str, str]:
        """Return what there is on the host, as far as snapshots could leave something behind."""
        asked = {
            "files": f"find /srv/vm /srv/xfs {STORE} -type f ! -path '*/applied/*' ! -name current 2>&-",
            "volumes": "lvs --noheadings -o name,origin,tags vg0 | sort", "domains": "xl list | cut -d ' ' -f 1",
            "stopped": "ps -eo stat,args | grep '^T' | grep -v ' sshd' ", "loops": "losetup -l -n -O back-file | sort",
        }  # fmt: skip
        return {what: self.dom0.ask(command, status=None) for what, command in asked.items()}

    def sound(self) -> None:
        """Hold that all that is stored is sound: by domsnap's own look, and by Xen's and QEMU's."""
        self.dom0.ask(f"domsnap verify {self.domain.name}")
        for snapshot in self.snapshots():
            checker = "/usr/lib/xen-*/bin/verify-stream-v2"
            self.dom0.ask(
                f"PYTHONPATH=$(echo /usr/lib/xen-*/lib/python) python3 {checker} -f xl "
                f"<{STORE}/{self.domain.name}/{snapshot}/memory"
            )

    def end(self) -> None:
        """End the domain and its disks; nothing else may be left of it."""
        self.domain.whole()
        self.off()
        images = [path for vdev, path in self.domain.paths.items() if self.disks[vdev][0] == "qcow2"]
        for path in images:
            said = self.dom0.ask(f"qemu-img check {path} && qemu-img info {path}")
            assert "backing file" not in said
            assert "Snapshot list" not in said
        for path in self.domain.paths.values():
            self.dom0.ask(f"lvremove -qq -y {path}" if path.startswith("/dev/") else f"rm {path}")
        self.dom0.ask(f"rm {self.domain.cfg}")
        left = self.left()
        differs = {what: (self.before[what], said) for what, said in left.items() if said != self.before[what]}
        assert not differs, differs
