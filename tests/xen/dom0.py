"""A real Xen host inside QEMU, without hardware virtualisation: booted, asked over ssh, cut off, and always ended."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.xen.image import emulator, image

# Xen or its guests die under plain TCG of each of these: Xen of MWAIT, dom0 of SMAP, PVH and HVM guests of RDTSCP, and
# dom0 oddly of what comes with AVX.
CPU = "EPYC,+svm,+npt,-smap,-monitor,-rdtscp,-avx,-avx2,-f16c,-fma,-xsave,-xsaveopt,-xsavec,-xgetbv1"
XEN = "console=com1 com1=115200,8n1 dom0_mem=1024M,max:1024M loglvl=all guest_loglvl=all noreboot"
LINUX = "console=hvc0 root=/dev/vda mitigations=off net.ifnames=0 quiet loglevel=4"
BOOT = 300  # seconds that dom0 may take to start: 20 on an idle machine, many more on a busy one
LONG = 300  # seconds that a command may take in it


class Failed(AssertionError):
    """A command in dom0 ended as it should not have."""


class Dom0:
    """One booted host. Its disk is a copy in `folder`, which outlives a power cut; the image is left as it is."""

    def __init__(self, release: str, folder: Path) -> None:
        self.image, self.emulator, self.folder = image(release), emulator(), folder
        self.serial = folder / "serial.log"
        subprocess.run(["cp", "--sparse=always", self.image / "disk.img", folder / "disk.img"], check=True)
        shutil.copy(self.image / "key", folder / "key")
        self.qemu: subprocess.Popen[bytes] | None = None
        self.failed = False  # a test has, and may have left something behind
        self.cleared = 0  # how often all was removed for that
        self.followed: dict[str, tuple[Path, subprocess.Popen[bytes]]] = {}

    def __enter__(self) -> Self:
        self.boot()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        (self.folder / "disk.img").unlink()

    def boot(self) -> None:
        """Start the host; come back when its toolstack can be used."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.serial.unlink(missing_ok=True)
        # What else runs here must not make the device models of its domains time out: root may ask for that. It ends
        # with us, also when we are killed.
        argv = ["nice", "-n", "-15", "setpriv", "--pdeathsig", "KILL", *self.emulator]
        # Two processors: on one, a guest waits for tens of seconds while dom0 copies its memory.
        argv += ["-accel", "tcg,thread=multi", "-cpu", CPU]
        argv += ["-m", "4096", "-smp", "2", "-machine", "q35", "-nodefaults", "-no-reboot", "-display", "none"]
        argv += ["-kernel", f"{self.image}/hypervisor", "-append", XEN]
        argv += ["-initrd", f"{self.image}/kernel {LINUX},{self.image}/initrd"]
        argv += ["-serial", f"file:{self.serial}", "-monitor", "none", "-device", "virtio-blk-pci,drive=root"]
        argv += ["-drive", f"file={self.folder}/disk.img,format=raw,if=none,id=root,cache=unsafe"]
        argv += ["-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"]
        argv += ["-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"]
        with (self.folder / "qemu.log").open("wb") as log:
            self.qemu = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        limit = time.monotonic() + BOOT
        while "dom0 is ready" not in self.said():
            if self.qemu.poll() is not None or time.monotonic() > limit:
                raise Failed(f"dom0 does not start: {self.said()[-2000:]}{(self.folder / 'qemu.log').read_text()}")
            time.sleep(0.5)

    def cut(self) -> None:
        """Cut the power."""
        if self.qemu:
            self.qemu.kill()
            self.qemu.wait()
            subprocess.run([*self.ssh(), "-O", "exit"], capture_output=True, check=False)
        for _, process in self.followed.values():
            process.kill()
            process.wait()
        self.followed.clear()
        self.qemu = None

    def said(self) -> str:
        """Return what came over the serial line: Xen's messages and dom0's."""
        return self.serial.read_text(errors="replace") if self.serial.exists() else ""

    def ssh(self) -> list[str]:
        """Return the command that gets in; what is to be run there follows it. All share one connection."""
        known = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        share = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={self.folder}/%p"]
        limit = ["-o", "ConnectTimeout=60", "-o", "ServerAliveInterval=30"]
        return ["ssh", "-p", str(self.port), "-i", f"{self.folder}/key", *known, *share, *limit, "root@127.0.0.1"]

    def ask(self, command: str, *, status: int | None = 0, given: bytes = b"", limit: float = LONG) -> str:
        """Run a line of shell in dom0; return what it said, on both streams. status: what it must exit with, None if
        that does not matter. Raises Failed."""
        shell = f"exec 2>&1; {command}"
        begun = time.monotonic()
        try:
            done = subprocess.run(
                [*self.ssh(), shell], input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                timeout=limit,
            )  # fmt: skip
        except subprocess.TimeoutExpired as hung:
            raise Failed(f"still not done after {limit:.0f} s: {command}\n{hung.stdout!r}") from None
        said = done.stdout.decode(errors="replace")
        with (self.folder / "asked").open("a") as asked:
            asked.write(f"{time.monotonic() - begun:7.1f} s  {command.partition(chr(10))[0][:120]}\n")
        if status is not None and done.returncode != status:
            raise Failed(f"exit status {done.returncode}, not {status}: {command}\n{said}")
        return said

    def watch(self, command: str, until: str) -> Iterator[str]:
        """Run a line of shell; yield what it says, line by line, until one begins with what fits the regular expression
        `until`, or it ends. After that it is on its own."""
        with subprocess.Popen(
            [*self.ssh(), f"exec 2>&1; {command}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            try:
                for line in process.stdout:
                    yield line
                    if re.match(until, line):
                        return
            finally:
                process.kill()  # or its end would be waited for

    def follow(self, path: str) -> str:
        """Return what is in a file that grows. It comes over by itself: to ask for it again and again would keep a host
        that is slow busy with that."""
        if path not in self.followed:
            here = self.folder / Path(path).name
            argv = [*self.ssh(), f"exec tail -n +1 -F {shlex.quote(path)} 2>&-"]
            with here.open("wb") as copy:
                self.followed[path] = here, subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=copy)
            self.ask("sleep 1")  # so that it is all there
        here, process = self.followed[path]
        assert process.poll() is None, f"{path} is not followed any more"
        return here.read_text(errors="replace")

    def put(self, path: str, content: bytes | str, mode: str = "644") -> None:
        """Write a file in dom0."""
        given = content.encode() if isinstance(content, str) else content
        self.ask(f"cat >{shlex.quote(path)} && chmod {mode} {shlex.quote(path)}", given=given)
