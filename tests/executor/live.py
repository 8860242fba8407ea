"""A host to observe: programs that print what was recorded, real images, QEMUs that answer what was recorded."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from executor.outputs import Outputs
from tests.executor.recordings import IMAGES, outputs

# The text that each call prints, by the call itself; what is not here fails as a program does.
PROGRAM = """\
#!/bin/sh
call="${0##*/} $*"
printf '%s\\n' "$call" >>'@root@/calls'
name=$(printf %s "$call" | tr -c 'a-zA-Z0-9\\n' _)
if [ -e '@root@/next/'"$name" ]; then mv '@root@/next/'"$name" '@root@/texts/'"$name.after"
  cat '@root@/texts/'"$name.after"; exit; fi
if [ -e '@root@/texts/'"$name.sh" ]; then . '@root@/texts/'"$name.sh"; fi
cat '@root@/texts/'"$name"
"""


def key(call: str) -> str:
    return re.sub("[^a-zA-Z0-9]", "_", call)


class Monitor:
    """Answers requests with the values given, one connection after another; with an error what it does not know."""

    def __init__(self, path: Path, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(1)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def close(self) -> None:
        if self.thread.is_alive():
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the accept that waits
            self.thread.join(10)
            self.socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                try:
                    self._say(connection, {"QMP": {"version": {}, "capabilities": []}})
                    for request in _requests(connection):
                        self._say(connection, {**self._answer(request), "id": request.get("id")})
                except OSError:  # it was left
                    continue

    def _answer(self, request: Any) -> dict[str, Any]:
        name = request["execute"]
        self.asked.append(name)
        if name == "qmp_capabilities":
            return {"return": {}}
        if name in self.answers:
            return {"return": self.answers[name]}
        return {"error": {"class": "CommandNotFound", "desc": f"The command {name} has not been found"}}

    @staticmethod
    def _say(connection: socket.socket, message: Any) -> None:
        connection.sendall(json.dumps(message).encode() + b"\r\n")


def _requests(connection: socket.socket) -> Iterator[Any]:
    """Yield requests as they come; as to QEMU, the end of a line means nothing."""
    text = ""
    while part := connection.recv(65536):
        text += part.decode()
        while text := text.lstrip():
            try:
                request, end = json.JSONDecoder().raw_decode(text)
            except ValueError:
                break
            text = text[end:]
            yield request


@dataclass(slots=True)
class Live:
    """`said` is what a perfect observer would find: the recording, moved to this machine's paths and processes."""

    root: Path
    said: Outputs
    monitors: dict[int, Monitor] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"{self.root}/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    @property
    def images(self) -> Path:
        return self.root / "vm"

    def prints(self, call: str, text: str) -> None:
        """Have the program print `text` from now on."""
        (self.root / "texts" / key(call)).write_text(text)

    def prints_once(self, call: str, text: str) -> None:
        (self.root / "next" / key(call)).write_text(text)

    def does(self, call: str, script: str) -> None:
        """Have the program run these lines of sh before it prints."""
        (self.root / "texts" / f"{key(call)}.sh").write_text(script)

    def calls(self) -> list[str]:
        return (self.root / "calls").read_text().splitlines()


@contextmanager
def live(root: Path, host: str) -> Iterator[Live]:
    """Yield a host "xen-4.17" or "xen-4.20" that stands in `root`, a short path: sockets are in it."""
    with ExitStack() as stack:
        recorded = outputs(host)
        pids = {domid: stack.enter_context(_device_model(f"{root}/qmp-libxenstat-{domid}")) for domid in recorded.qmp}
        here = Live(root, _moved(recorded, root, pids))
        for name in ("bin", "texts", "next", "vm"):
            (root / name).mkdir()
        for name in ("xl", "xenstore-ls", "findmnt", "df", "lvs", "vgs", "lvm"):
            (root / "bin" / name).write_text(PROGRAM.replace("@root@", str(root)))
            (root / "bin" / name).chmod(0o755)
        (root / "bin/qemu-img").write_text(
            f'#!/bin/sh\necho "qemu-img $*" >>\'{root}/calls\'\nexec {shutil.which("qemu-img")} "$@"\n'
        )
        (root / "bin/qemu-img").chmod(0o755)
        said = here.said
        columns = "vg_name,lv_name,lv_uuid,lv_path,lv_size,lv_attr,lv_tags,pool_lv,origin,data_percent,metadata_percent"
        for call, text in {
            "xl info": said.xl_info, "xl list -v": said.xl_list, "xl list -l": said.xl_list_long,
            "xenstore-ls -f": said.xenstore, "findmnt --json": said.findmnt,
            "df --block-size=1 --portability": said.df,
            f"lvs --reportformat json --units b --nosuffix -o {columns},segtype": said.lvs,
            "vgs --reportformat json --units b --nosuffix -o vg_name,vg_uuid,vg_size,vg_free,vg_extent_size": said.vgs,
            "lvm version": said.lvm_version,
        }.items():  # fmt: skip
            here.prints(call, text)
        _make_images(here.images)
        for domid, answers in said.qmp.items():
            said_by_it = {name: json.loads(text) for name, text in answers.items()}
            here.monitors[domid] = Monitor(root / f"qmp-libxenstat-{domid}", said_by_it)
            stack.callback(here.monitors[domid].close)
        yield here


def _moved(said: Outputs, root: Path, pids: Mapping[int, int]) -> Outputs:
    """Return the recording with the images in `root` and the device models' process numbers of today."""
    store = said.xenstore.replace(IMAGES, f"{root}/vm")
    for domid, pid in pids.items():
        store = re.sub(rf'(/local/domain/{domid}/image/device-model-pid = ")[0-9]+', rf"\g<1>{pid}", store)
    numbers = re.findall(r'device-model-pid = "([0-9]+)"', said.xenstore)
    renumbered = dict(zip(numbers, re.findall(r'device-model-pid = "([0-9]+)"', store), strict=True))
    return replace(
        said,
        xenstore=store,
        xl_list_long=said.xl_list_long.replace(IMAGES, f"{root}/vm"),
        qemu_img_info={path.replace(IMAGES, f"{root}/vm"): text for path, text in said.qemu_img_info.items()},
        qmp={
            domid: {name: text.replace(IMAGES, f"{root}/vm") for name, text in answers.items()}
            for domid, answers in said.qmp.items()
        },
        processes=tuple(
            replace(process, pid=int(renumbered.get(str(process.pid), process.pid))) for process in said.processes
        ),
        inodes={},
    )


@contextmanager
def _device_model(monitor: str) -> Iterator[int]:
    """Yield the number of a process that has the command line of a domain's QEMU."""
    words = ("-chardev", f"socket,id=libxenstat-cmd,path={monitor},server=on,wait=off", "-nodefaults")
    with subprocess.Popen(("sh", "-c", "read x", "qemu", *words), stdin=subprocess.PIPE) as process:
        yield process.pid
        assert process.stdin
        process.stdin.close()


def _make_images(folder: Path) -> None:
    for name in ("web01.qcow2", "mail.qcow2", "win.qcow2"):
        qemu_img("create", "-f", "qcow2", str(folder / name), "64M")
    qemu_img("create", "-f", "qcow2", "-b", "web01.qcow2", "-F", "qcow2", str(folder / "clone.qcow2"))
    for name in ("web01-data.raw", "win-d.raw"):
        with (folder / name).open("wb") as file:
            file.truncate(64 * 2**20)
    for path in folder.iterdir():  # until it is on disk, a file takes more room from one second to the next
        with path.open("rb") as file:
            os.fsync(file.fileno())


def qemu_img(*words: str) -> None:
    subprocess.run(("qemu-img", *words), check=True, stdout=subprocess.DEVNULL)
