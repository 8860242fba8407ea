"""Whole scripts against a real QEMU: an overlay, its rollback with the guest's data, jobs, monitors that are silent."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from executor.script import script
from planner.commands import AwaitJob, Command, Qmp, Run
from planner.operation import Effect
from planner.plan import Plan, Step, Subject

UUID = "0a1b2c3d-0000-4000-8000-000000000001"
FROZEN, OVERLAY = "write -P 0x11 0 64k", "write -P 0x22 64k 64k"


@dataclass(frozen=True, slots=True)
class Host:
    """A folder with a disk that a QEMU, stopped before its first instruction, has open as node n0."""

    root: Path
    monitor: str

    def qmp(self, execute: str, /, prints: str = "", lacks: str = "", **arguments: object) -> Qmp:
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        return Qmp(self.monitor, execute, named, prints=prints, lacks=lacks)

    def io(self, node: str, command: str) -> Qmp:
        """Act as the guest would, through QEMU; fails where qemu-io says that it did."""
        return self.qmp("human-monitor-command", prints='^""$', command_line=f'qemu-io {node} "{command}"')

    def run(self, *steps: Step, words: tuple[str, ...] = (), patience: int = 60) -> subprocess.CompletedProcess[str]:
        numbered = tuple(replace(step, number=number) for number, step in enumerate(steps, 1))
        subject = Subject("web01", UUID, "pvh", "running", 2**25, 7)
        plan = Plan("create", "one", (subject,), "dom0", str(self.root / "store"), numbered)
        path = self.root / "script.sh"
        path.write_text(script(plan).replace("PATIENCE = 60", f"PATIENCE = {patience}"))
        return subprocess.run(
            ["/bin/dash", str(path), *words], capture_output=True, text=True, check=False, timeout=30,
            env={"DOMSNAP_RUN": str(self.root / "run"), "PATH": "/nonexistent"},
        )  # fmt: skip

    def holds(self, name: str, *patterns: str) -> bool:
        """Whether an image and its chain hold what was written, read from outside."""
        argv = [
            "qemu-io",
            "-U",
            "-r",
            "-f",
            "qcow2",
            *(w for p in patterns for w in ("-c", p.replace("write", "read"))),
        ]
        done = subprocess.run([*argv, str(self.root / name)], capture_output=True, text=True, check=False, timeout=30)
        return (
            done.returncode == 0
            and "failed" not in done.stdout
            and done.stdout.count("read 65536/65536") == len(patterns)
        )

    def backing(self, name: str) -> str:
        said = subprocess.run(
            ["qemu-img", "info", "-U", str(self.root / name)], capture_output=True, text=True, check=True, timeout=30
        ).stdout
        return next((line.split(": ")[1].split(" (")[0] for line in said.splitlines() if "backing file:" in line), "")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    disk, monitor = tmp_path / "disk.qcow2", tmp_path / "qmp"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "8M"], check=True)
    node = f"driver=qcow2,node-name=n0,file.driver=file,file.locking=off,file.filename={disk}"
    argv = ("qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-m", "32", "-S", "-nodefaults",
            "-display", "none", "-blockdev", node, "-device", "virtio-blk-pci,drive=n0,share-rw=on",
            "-qmp", f"unix:{monitor},server=on,wait=off", "-daemonize", "-pidfile", str(tmp_path / "pid"))  # fmt: skip
    subprocess.run(argv, check=True, timeout=30)  # comes back once the monitor listens
    try:
        yield Host(tmp_path, str(monitor))
    finally:
        pid = (tmp_path / "pid").read_text().strip()
        subprocess.run(["kill", "-s", "KILL", pid], check=True)


def step(*do: Command, undo: tuple[Command, ...] = (), effect: Effect = "create", **rest: object) -> Step:
    made = Step(0, "web01", "a step of the test", "", "xvda", effect, "prepare", do, undo=undo)
    return replace(made, **rest)  # type: ignore[arg-type]  # the fields that the caller names


def overlay_steps(host: Host, *, commit: bool) -> list[Step]:
    """Write as the guest, then take an external snapshot as a plan does, then write again."""
    disk, new = str(host.root / "disk.qcow2"), str(host.root / "new.qcow2")
    action = {"type": "blockdev-snapshot", "data": {"node": "n0", "overlay": "n1"}}
    job = AwaitJob(host.monitor, "back", complete=True, optional=True)
    back = Qmp(
        host.monitor, "block-commit", {"job-id": "back", "device": "n1", "base-node": "n0", "auto-dismiss": False},
        when=("query-block", '"node-name":"n1"'),
    )  # fmt: skip
    node = {"driver": "qcow2", "node-name": "n1", "backing": None, "file": {"driver": "file", "filename": new}}
    abort = {"actions": [action, {"type": "abort", "data": {}}]}
    return [
        step(host.io("n0", FROZEN)),
        step(
            Run(("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", disk, "-F", "qcow2", "--", new, "8388608")),
            undo=(Run(("rm", "-f", "--", new)),), undo_needs=(3, 5),
        ),
        step(
            Qmp(host.monitor, "blockdev-add", node),
            undo=(Qmp(host.monitor, "blockdev-del", {"node-name": "n1"}, tolerates="Failed to find node"),),
            undo_needs=(5,),
        ),
        step(Qmp(host.monitor, "transaction", abort, error="Transaction aborted using Abort action")),
        step(
            Qmp(host.monitor, "transaction", {"actions": [action]}),
            checks=(host.qmp("query-block", prints='"node-name":"n0"'),),
            after=(host.qmp("query-block", prints='"node-name":"n1"'),),
            undo=(back, job, host.qmp("query-block", lacks='"node-name":"n1"')), undo_when="held", commit=commit,
        ),
        step(host.io("n1", OVERLAY)),
    ]  # fmt: skip


def test_an_overlay_is_added_rehearsed_and_switched_to(host: Host) -> None:
    done = host.run(*overlay_steps(host, commit=True), step(host.io("n1", "flush")))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert host.backing("new.qcow2") == str(host.root / "disk.qcow2")
    assert host.holds("new.qcow2", FROZEN, OVERLAY)
    assert host.holds("disk.qcow2", FROZEN)
    assert not host.holds("disk.qcow2", OVERLAY)


def test_a_failure_after_the_transaction_takes_the_guest_back_with_all_it_wrote_since(host: Host) -> None:
    done = host.run(*overlay_steps(host, commit=False), step(Run(("false",))))
    assert done.returncode == 5, done.stderr
    assert "everything was undone" in done.stderr
    order = [int(line.split()[-1]) for line in done.stderr.splitlines() if line.startswith("  undoing step ")]
    assert order == [5, 3, 2]
    assert not (host.root / "new.qcow2").exists()
    again = host.run(step(host.qmp("query-named-block-nodes", lacks='"node-name":"n1"'), host.io("n0", "flush")))
    assert again.returncode == 0, again.stderr
    assert host.holds("disk.qcow2", FROZEN, OVERLAY)


def test_the_commands_to_finish_by_hand_say_why_when_an_undo_fails(host: Host) -> None:
    steps = overlay_steps(host, commit=False)
    steps[4] = replace(steps[4], undo=(Run(("false",)),))
    done = host.run(*steps, step(Run(("false",))))
    assert done.returncode == 6
    indented = [line for line in done.stderr.splitlines() if line.startswith("    ")]
    assert indented[0] == "    false"
    assert any('"blockdev-del"' in line and host.monitor in line for line in indented)
    assert indented[-1] == f"    rm -f -- {host.root / 'new.qcow2'}"
    assert (host.root / "new.qcow2").exists(), "an undo that depends on a failed one must not be tried"


def test_a_job_is_awaited_to_its_end_also_one_that_waits_to_be_told(host: Host) -> None:
    stream = {"job-id": "down", "device": "n1", "auto-dismiss": False, "auto-finalize": False}
    done = host.run(
        *overlay_steps(host, commit=True),
        step(
            Qmp(host.monitor, "block-stream", stream),
            AwaitJob(host.monitor, "down", pending=True),
            host.qmp("query-jobs", prints='"status":"pending"'),
            host.io("n1", "flush"),
            host.qmp("job-finalize", id="down"),
            AwaitJob(host.monitor, "down"),
            host.qmp("query-jobs", prints=r"^\[\]$"),
        ),
    )
    assert done.returncode == 0, done.stderr
    assert host.backing("new.qcow2") == ""
    assert host.holds("new.qcow2", FROZEN, OVERLAY)


def test_a_job_that_fails_is_a_failure_and_is_not_left_behind(host: Host) -> None:
    small = str(host.root / "small.raw")
    target = {"driver": "blkdebug", "node-name": "bad", "image": {"driver": "file", "filename": small},
              "inject-error": [{"event": "none", "iotype": "write", "errno": 28}]}  # fmt: skip
    backup = {"job-id": "copy", "device": "n0", "target": "bad", "sync": "full", "auto-dismiss": False}
    done = host.run(
        step(Run(("truncate", "-s", "8388608", small)), host.io("n0", FROZEN)),
        step(Qmp(host.monitor, "blockdev-add", target)),
        step(Qmp(host.monitor, "blockdev-backup", backup), AwaitJob(host.monitor, "copy")),
    )
    assert done.returncode == 5, done.stderr
    assert "the job copy failed: No space left on device" in done.stderr
    assert host.run(step(host.qmp("query-jobs", prints=r"^\[\]$"))).returncode == 0


def test_a_request_is_tried_again_for_as_long_as_it_may(host: Host) -> None:
    slow = {"job-id": "down", "device": "n1", "speed": 65536}
    done = host.run(
        *overlay_steps(host, commit=True),
        step(Qmp(host.monitor, "block-stream", slow), replace(host.qmp("query-jobs", prints=r"^\[\]$"), within=30)),
    )
    assert done.returncode == 0, done.stderr


class Deaf:
    """A monitor that says `lines` to whoever connects, and after that nothing; `then` it hangs up, or it does not."""

    def __init__(self, path: Path, *lines: str, hang_up: bool = False) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(8)
        self.lines, self.hang_up, self.clients = lines, hang_up, list[socket.socket]()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            client.sendall("".join(f"{line}\n" for line in self.lines).encode())
            self.clients.append(client)
            if self.hang_up:
                client.close()

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for client in self.clients:
            client.close()


GREETING = '{"QMP": {"version": {}, "capabilities": []}}'
AGREED = '{"return": {}, "id": 1}'
SILENT = [
    pytest.param((), False, id="it says nothing"),
    pytest.param((GREETING,), False, id="it greets and no more"),
    pytest.param((GREETING, AGREED), False, id="it answers no request"),
    pytest.param((GREETING, AGREED), True, id="it hangs up"),
    pytest.param((GREETING, AGREED, "{"), False, id="it says what is no JSON"),
    pytest.param((GREETING, AGREED, '{"event": "STOP"}'), False, id="it tells of events alone"),
]


@pytest.mark.parametrize("lines,hang_up", SILENT)
def test_a_monitor_that_does_not_answer_is_a_failure_and_no_hang(
    tmp_path: Path, lines: tuple[str, ...], hang_up: bool
) -> None:
    made, monitor = tmp_path / "made", tmp_path / "qmp"
    deaf = Deaf(monitor, *lines, hang_up=hang_up)
    try:
        done = Host(tmp_path, str(monitor)).run(
            step(Run(("mkdir", "--", str(made))), undo=(Run(("rmdir", "--", str(made))),)),
            step(Qmp(str(monitor), "query-status")),
            patience=1,
        )
    finally:
        deaf.close()
    assert done.returncode == 5, done.stderr
    assert '"execute":"query-status"' in done.stderr
    assert "Traceback" not in done.stderr
    assert not made.exists()


def test_a_monitor_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    monitor = str(tmp_path / "qmp")
    identity = replace(step(effect="check"), subject="domain", checks=(Run(("true",)),))
    done = Host(tmp_path, monitor).run(identity, step(Qmp(monitor, "query-status"), Run(("mkdir", f"{tmp_path}/made"))))
    assert done.returncode == 1, done.stderr
    assert "nothing was changed" in done.stderr
    assert "No such file" in done.stderr
    assert not (tmp_path / "made").exists()
