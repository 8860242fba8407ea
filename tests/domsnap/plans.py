"""Plans built by hand, for the tests of everything that shows a plan."""

from __future__ import annotations

from dataclasses import replace

from planner.commands import AwaitJob, Command, Qmp, Rename, Run, Seal, Write
from planner.operation import Effect
from planner.plan import DiskRow, Notice, Phase, Plan, Space, Step, Stop, Subject

MONITOR = "/var/run/xen/qmp-libxenstat-7"
UUID = "3b1f7a52-0d0f-4f64-9f43-0f9cf6ab4f0e"
GIB = 2**30
WEB01 = Subject("web01", UUID, "pvh", "running", 4 * GIB, 7)
FOLDER = "/var/lib/domsnap/web01/before-upgrade"


def step(
    number: int,
    phase: Phase,
    effect: Effect,
    title: str,
    *do: Command,
    undo: tuple[Command, ...] = (),
    checks: tuple[Command, ...] = (),
    after: tuple[Command, ...] = (),
    why: str = "",
    subject: str = "domain",
    commit: bool = False,
    domain: str = "web01",
) -> Step:
    return Step(number, domain, title, why, subject, effect, phase, do, checks, after, undo, commit=commit)


def listed(state: str) -> Run:
    return Run(("xl", "list", "-v"), prints=f"^web01 +7 +{state} ", within=30)


def ordinary() -> Plan:
    """A running PVH domain with four disks: internal, external, thick LVM, and swap left out."""
    image, frozen = "/srv/xen/web01/data.qcow2", "/srv/xen/web01/data.before-upgrade.qcow2"
    overlay = "/srv/xen/web01/data.before-upgrade.new.qcow2"
    tag = {"device": "#block120", "name": "before-upgrade"}
    actions = [
        {"type": "blockdev-snapshot-internal-sync", "data": tag},
        {"type": "blockdev-snapshot", "data": {"node": "#block341", "overlay": "domsnap-xvdb"}},
    ]
    steps = (
        step(1, "prepare", "check", "confirm that web01 is still domain 7", checks=(listed("[r-]"),),
             why="a domain that was restarted since has another number and other node names: plan again"),
        step(2, "prepare", "create", f"make the folder {FOLDER}", Run(("mkdir", "-m", "0700", "--", FOLDER)),
             undo=(Run(("rmdir", "--", FOLDER), when=("test", "-d", FOLDER)),), subject="record"),
        step(3, "prepare", "create", f"xvdb: link {image} to {frozen}", Run(("ln", "--", image, frozen)),
             undo=(Run(("rm", "--", frozen), when=("test", frozen, "-ef", image)),), subject="xvdb",
             why="the image keeps its content under that name when its path is taken over"),
        step(4, "prepare", "create", f"xvdb: make an overlay on {frozen}",
             Run(("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", frozen, "-F", "qcow2", "--", overlay, "1")),
             undo=(Run(("rm", "-f", "--", overlay)),), subject="xvdb"),
        step(5, "prepare", "create", "xvdb: open the overlay in QEMU as domsnap-xvdb",
             Qmp(MONITOR, "blockdev-add", {"driver": "qcow2", "node-name": "domsnap-xvdb"}),
             undo=(Qmp(MONITOR, "blockdev-del", {"node-name": "domsnap-xvdb"}, tolerates="Failed to find node"),),
             subject="xvdb"),
        step(6, "prepare", "check", "rehearse the disk transaction (xvdb)",
             Qmp(MONITOR, "transaction", {"actions": [actions[1], {"type": "abort", "data": {}}]}, error="aborted"),
             why="QEMU tries every action and takes it back, so the real one cannot be refused", subject="storage"),
        step(7, "prepare", "change", "hold the xl monitor of web01 (process 2211)",
             Run(("kill", "-s", "STOP", "--", "2211")), undo=(Run(("kill", "-s", "CONT", "--", "2211")),)),
        step(8, "freeze", "stop", "suspend web01 and write its memory",
             Run(("xl", "save", "-p", "--", "7", f"{FOLDER}/memory.part")), after=(listed("p"),),
             undo=(Run(("xl", "unpause", "--", "7")), listed("r"), Run(("rm", "-f", "--", f"{FOLDER}/memory.part"))),
             why="xl save is not live: the guest stands still while all its memory is written", subject="memory"),
        step(9, "freeze", "create", "xvdc: LVM snapshot vg0/web01-db-before-upgrade (thick, 4096 MiB)",
             Run(("lvcreate", "--snapshot", "--name", "web01-db-before-upgrade", "--size", "4g", "--", "vg0/web01-db")),
             undo=(Run(("lvremove", "--yes", "--select", 'lv_name="web01-db-before-upgrade"', "--", "vg0")),),
             subject="xvdc"),
        step(10, "freeze", "create", "xvda: internal snapshot before-upgrade; xvdb: switch to the overlay",
             Qmp(MONITOR, "transaction", {"actions": actions}),
             undo=(Qmp(MONITOR, "block-commit", {"device": "domsnap-xvdb"}),
                   AwaitJob(MONITOR, "domsnap-7", complete=True),
                   Qmp(MONITOR, "blockdev-snapshot-delete-internal-sync", tag)),
             why="one QMP transaction: all of these disks at one instant, or none of them", subject="xvda+xvdb"),
        step(11, "freeze", "change", f"xvdb: the new image takes over {image}", Rename(overlay, image), subject="xvdb",
             undo=(Run(("ln", "-f", "--", frozen, f"{overlay}.back")), Rename(f"{overlay}.back", image)), commit=True),
        step(12, "thaw", "go", "let web01 run on", Run(("xl", "unpause", "--", "7")), after=(listed("r"),)),
        step(13, "thaw", "change", "let the xl monitor of web01 go on", Run(("kill", "-s", "CONT", "--", "2211"))),
        step(14, "finish", "create", "check that the memory image is complete, and give it its name",
             Seal(f"{FOLDER}/memory.part", f"{FOLDER}/memory.sha256"),
             Rename(f"{FOLDER}/memory.part", f"{FOLDER}/memory"),
             undo=(Run(("rm", "--", f"{FOLDER}/memory")),), subject="memory"),
        step(15, "finish", "create", "write the record of before-upgrade", Write(f"{FOLDER}/record.json.part", "{}\n"),
             subject="record"),
    )  # fmt: skip
    disks = (
        DiskRow("web01", "xvda", "qdisk", "qcow2", "/srv/xen/web01/root.qcow2", 20 * GIB, "internal",
                "QEMU serves it (qdisk): snapshot by QMP", "/srv/xen/web01/root.qcow2"),
        DiskRow("web01", "xvdb", "qdisk", "qcow2", image, 500 * GIB, "external",
                "QEMU serves it (qdisk): overlay by QMP", frozen),
        DiskRow("web01", "xvdc", "phy", "raw", "/dev/vg0/web01-db", 64 * GIB, "lvm",
                "thick logical volume: lvcreate --snapshot", "vg0/web01-db-before-upgrade"),
        DiskRow("web01", "xvdd", "phy", "raw", "/dev/vg0/web01-swap", 2 * GIB, "exclude", "left alone: swap"),
    )  # fmt: skip
    return Plan(
        verb="create",
        snapshot="before-upgrade",
        domains=(WEB01,),
        host="xen1",
        store="/var/lib/domsnap",
        steps=steps,
        description="Before the 13.2 upgrade",
        spec="0" * 64,
        source="specs/web01.yaml:3:1",
        observed="2026-01-31T22:00:00Z",
        disks=disks,
        space=(
            Space("/var/lib", "filesystem", 4_366_270_464, 227_633_266_688, "memory image"),
            Space("vg0", "volume group", 4 * GIB, 11 * GIB, "xvdc snapshot"),
        ),
        stops=(Stop("web01", 8300, 14200, "xl save wrote 480 MiB/s when last measured here; lvcreate takes 0.05-2 s"),),
        warnings=(
            Notice("xvdc: the snapshot becomes invalid once 4096 MiB of vg0/web01-db have been overwritten;"
                   " 65796 MiB would never fill", "specs/web01.yaml:14:7"),
        ),
    )  # fmt: skip


def revert() -> Plan:
    """A revert that gives up the present, and says what is lost."""
    disks = ordinary().disks[:1]
    steps = (
        step(1, "prepare", "check", "confirm that web01 is still domain 7", checks=(listed("r"),)),
        step(2, "prepare", "check", "confirm that the snapshot's memory image is complete and unaltered",
             checks=(Seal(f"{FOLDER}/memory"),), subject="memory"),
        step(3, "freeze", "stop", "destroy web01", Run(("xl", "destroy", "--", "7"))),
        step(4, "freeze", "change", "xvda: bring /srv/xen/web01/root.qcow2 back to its snapshot before-upgrade",
             Run(("qemu-img", "snapshot", "-a", "before-upgrade", "--", "/srv/xen/web01/root.qcow2")), subject="xvda"),
        step(5, "thaw", "go", "restore web01 from the snapshot's memory",
             Run(("xl", "restore", "--", f"{FOLDER}/memory")),
             undo=(Run(("xl", "destroy", "--", "web01")),), commit=True),
        step(6, "finish", "destroy", "xvda: delete the internal snapshot pre-revert-1",
             Run(("qemu-img", "snapshot", "-d", "pre-revert-1", "--", "/srv/xen/web01/root.qcow2")), subject="xvda"),
    )  # fmt: skip
    return replace(
        ordinary(),
        verb="revert",
        steps=steps,
        disks=disks,
        space=(Space("RAM", "memory", 4 * GIB, 11 * GIB, "restoring the domain"),),
        stops=(Stop("web01", 5000, 9000, "xl restore at an assumed 50-500 MiB/s"),),
        destroys=("memory: what web01 holds in it now (running)", "xvda: what was written to it since the snapshot"),
        warnings=(Notice("the guest's clock will be that of the snapshot until it is set again"),),
    )


def delete() -> Plan:
    """A delete of a snapshot of a domain that is off."""
    steps = (
        step(1, "prepare", "check", "confirm that web01 is still off",
             checks=(Run(("xl", "list", "-v"), lacks="^web01 "),)),
        step(2, "finish", "destroy", "xvda: delete the internal snapshot before-upgrade of /srv/xen/web01/root.qcow2",
             Run(("qemu-img", "snapshot", "-d", "before-upgrade", "--", "/srv/xen/web01/root.qcow2")), subject="xvda"),
        step(3, "finish", "destroy", "remove the memory image and the record of before-upgrade",
             Run(("rm", "-f", "--", f"{FOLDER}/memory")), subject="record"),
    )  # fmt: skip
    return replace(
        ordinary(),
        verb="delete",
        domains=(replace(WEB01, state="off", domid=None),),
        steps=steps,
        disks=ordinary().disks[:1],
        space=(),
        stops=(),
        warnings=(),
        destroys=("xvda: the internal snapshot before-upgrade", f"memory: {FOLDER}/memory"),
    )


def empty() -> Plan:
    """A snapshot that is there already."""
    note = "web01/before-upgrade exists and is what the spec declares"
    return replace(ordinary(), steps=(), disks=(), space=(), stops=(), warnings=(), note=note)


def offline() -> Plan:
    """An offline plan with a method that was never run on a real host."""
    return replace(ordinary(), offline=True, host="", untested=("vhd",), observed="")


def two() -> Plan:
    """Two domains that stand still at one instant."""
    db01 = replace(WEB01, name="db01", domid=9)
    steps = (
        step(1, "freeze", "stop", "suspend web01 and write its memory", Run(("xl", "save", "-p", "--", "7", "/a"))),
        step(2, "freeze", "stop", "suspend db01 and write its memory",
             Run(("xl", "save", "-p", "--", "9", "/b")), domain="db01"),
        step(3, "thaw", "go", "let web01 run on", Run(("xl", "unpause", "--", "7"))),
        step(4, "thaw", "go", "let db01 run on", Run(("xl", "unpause", "--", "9")), domain="db01"),
    )  # fmt: skip
    return replace(ordinary(), domains=(WEB01, db01), steps=steps)


HOSTILE = "evil\x1b[31m\r\n\u202e<script>alert(1)</script>;#`'\"&{}[]%%end"


def hostile() -> Plan:
    """An ordinary plan into whose every text a host or a file has put what should never reach a terminal or a page."""
    plan = ordinary()
    evil = Run(("rm", "--", HOSTILE))
    return replace(
        plan,
        snapshot=HOSTILE,
        description=HOSTILE,
        host=HOSTILE,
        source=f"{HOSTILE}:1:1",
        note=HOSTILE,
        untested=(HOSTILE,),
        destroys=(HOSTILE,),
        warnings=(Notice(HOSTILE, HOSTILE),),
        domains=(replace(WEB01, name=HOSTILE, state=HOSTILE, type=HOSTILE),),
        disks=tuple(
            replace(row, vdev=HOSTILE, path=HOSTILE, why=HOSTILE, holder=HOSTILE, method=HOSTILE) for row in plan.disks
        ),
        space=tuple(replace(row, place=HOSTILE, what=HOSTILE) for row in plan.space),
        stops=tuple(replace(row, basis=HOSTILE) for row in plan.stops),
        steps=tuple(
            replace(
                each, domain=HOSTILE, title=HOSTILE, why=HOSTILE, subject=HOSTILE, undo=(evil, *each.undo), do=(evil,)
            )
            for each in plan.steps
        ),
    )


ALL = (ordinary, revert, delete, empty, offline, two, hostile)
