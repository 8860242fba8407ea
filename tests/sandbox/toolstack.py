"""What every command of the stand-in xl needs: the machine, the words on standard error, the domain that is meant."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox import domains
from tests.sandbox.domains import Domain


class Failure(Exception):
    """What xl says on standard error before it exits with `status`."""

    def __init__(self, *said: str, status: int = 1) -> None:
        super().__init__(*said)
        self.said, self.status = said, status


@dataclass(frozen=True, slots=True)
class Host:
    """The machine. host.json says: xen, its version; memory in MiB; save_rate in bytes a second, 0 for no limit;
    patience, seconds that a guest may take to answer a request to suspend; save_fails: that the disk is full when
    half the memory is written."""

    root: Path
    xen: str = "4.17.7"
    memory: int = 4096
    save_rate: int = 0
    patience: float = 0.0
    save_fails: bool = False

    @property
    def version(self) -> tuple[int, int]:
        major, minor, *_ = self.xen.split(".")
        return int(major), int(minor)


def say(*lines: str) -> None:
    try:
        print(*lines, sep="\n", file=sys.stderr, flush=True)
    except BrokenPipeError:  # as a program in C that nobody listens to
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)


def identify(host: Host, who: str) -> str:
    """Return a domain's number as text; one that is given as a number is not looked up (light/libxl_utils.c)."""
    if who.isdecimal():
        return who
    found = domains.find(host.root, who)
    if found is None:
        raise Failure(f"{who} is an invalid domain identifier (rc=-6)")
    return str(found.domid)


def looked_up(host: Host, who: str) -> Domain:
    number = identify(host, who)
    found = domains.find(host.root, number)
    if found is None:
        raise Failure(f"libxl: error: libxl_domain.c:354:libxl_domain_info: Domain {number}:Getting domain info: "
                      "No such process")  # fmt: skip
    return found
