"""What is to be seen of a stand-in host: its programs are asked, and their outputs read as a real host's are."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from executor import observe
from executor.outputs import Outputs, Running
from executor.parse import qmp
from planner.facts import Facts
from tests.sandbox import domains, qemu

_IMAGES = ("qcow2", "raw")


def facts(root: Path, srv: Path, store: Path, environment: Mapping[str, str]) -> Facts:
    """Ask the host in `root`, whose images lie in `srv` and in `store`."""
    there = {str(each.domid): each for each in domains.domains(root)}
    public = {domid: each for domid, each in there.items() if qemu.served(each.config)}

    def ask(*argv: str) -> str:
        path = environment["DOMSNAP_PATH"]
        done = subprocess.run(["env", f"PATH={path}", *argv], check=True, capture_output=True, text=True, timeout=60)
        return done.stdout

    images = [str(path) for path in sorted((*srv.rglob("*"), *store.rglob("*.raw"))) if path.is_file()]
    findmnt = ask("findmnt", "--json")
    outputs = Outputs(
        observed=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        xl_info=ask("xl", "info"),
        xl_list=ask("xl", "list", "-v"),
        xl_list_long=ask("xl", "list", "-l"),
        xenstore=ask("xenstore-ls", "-f"),
        findmnt=findmnt,
        df=_once(ask("df", "--block-size=1", "--portability", str(srv), str(store))),
        lvs=ask("lvs", "--reportformat", "json"),
        vgs=ask("vgs", "--reportformat", "json"),
        lvm_version=ask("lvm", "version"),
        qemu_img_version=ask("qemu-img", "--version"),
        qemu_img_info={path: ask("qemu-img", "info", "-U", "--output=json", *_as(path), path) for path in images},
        qmp={int(domid): _answers(root / "run" / f"qmp-libxenstat-{domid}") for domid in public},
        records={str(path.parent): path.read_text() for path in store.glob("*/*/record.json")},
        current={path.parent.name: path.read_text() for path in store.glob("*/current")},
        processes=tuple(_processes(root, there)),
        inodes={path: f"{(about := os.stat(path)).st_dev}:{about.st_ino}" for path in images},
        reflink=tuple(_sharing(srv)),
    )
    seen = observe.facts(outputs)
    return replace(seen, domains=tuple(_with_monitor(root, each) for each in seen.domains))


def _once(text: str) -> str:
    """Return the text without the lines that were there before: df names a filesystem for each path in it."""
    return "".join(dict.fromkeys(text.splitlines(keepends=True)))


def _with_monitor(root: Path, domain: Any) -> Any:
    """The parser takes monitors to lie where Xen has them; these lie in the host's own folder."""
    if domain.qemu is None:
        return domain
    return replace(domain, qemu=replace(domain.qemu, monitor=f"{root}/run/qmp-libxenstat-{domain.domid}"))


def _as(path: str) -> tuple[str, ...]:
    """A raw image is whatever its guest makes it: its format is said, not guessed."""
    with open(path, "rb") as file:
        return ("-f", "qcow2", "--backing-chain") if file.read(4) == b"QFI\xfb" else ("-f", "raw", "--backing-chain")


def _answers(monitor: Path) -> dict[str, str]:
    commands = (qmp.BLOCK, qmp.NODES, qmp.GRAPH, qmp.JOBS, qmp.STATUS, qmp.VERSION)
    with qemu.Monitor(monitor) as connection:
        said = {command: connection(command) for command in commands}
        said[qmp.VDEVS] = {}
        for drive in said[qmp.BLOCK]:
            try:
                said[qmp.VDEVS][drive["qdev"]] = connection("qom-get", path=drive["qdev"], property="vdev")
            except qemu.Trouble:  # no disk of the device model's
                pass
    return {command: json.dumps(value) for command, value in said.items()}


def _processes(root: Path, there: Mapping[str, domains.Domain]) -> Iterator[Running]:
    for domain in there.values():
        for process in (domain.device_model, domain.monitor):
            if domains.alive(process):
                exe = os.readlink(f"/proc/{process[0]}/exe")
                stdout = os.readlink(f"/proc/{process[0]}/fd/1").replace(f"{root}/log", domains.LOGS)
                yield Running(process[0], process[1], exe, stdout)


def _sharing(folder: Path) -> Iterator[str]:
    """Yield the mount point of a folder if its filesystem shares blocks between files: a probe says so."""
    one, other = (folder / f".probe-{number}" for number in (1, 2))
    one.write_bytes(b"0" * 4096)
    done = subprocess.run(["cp", "--reflink=always", one, other], check=False, capture_output=True)
    for path in (one, other):
        path.unlink(missing_ok=True)
    if done.returncode == 0:
        yield subprocess.run(["findmnt", "-n", "-o", "TARGET", "-T", folder], check=True, capture_output=True,
                             text=True).stdout.strip()  # fmt: skip
