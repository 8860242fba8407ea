"""The commands of the stand-in xl that only tell."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from tests.sandbox import domains, guest
from tests.sandbox.toolstack import Failure, Host, identify

_TITLES = "Name                                        ID   Mem VCPUs\tState\tTime(s)"
_LONG = "   UUID                            Reason-Code\tSecurity Label"
_REASONS = {guest.OFF: "0", guest.REBOOT: "1", guest.CRASH: "3"}
_DOM0 = 1024  # MiB


def info(host: Host, options: set[str]) -> None:
    used = sum(each.memory for each in domains.domains(host.root))
    major, minor, extra = host.xen.split(".", 2)
    said = {
        "host": "dom0", "release": os.uname().release, "machine": "x86_64", "nr_cpus": 2,
        "virt_caps": "pv hvm hap gnttab-v1 gnttab-v2", "total_memory": host.memory,
        "free_memory": host.memory - _DOM0 - used, "xen_major": major, "xen_minor": minor, "xen_extra": f".{extra}",
        "xen_version": host.xen, "xen_caps": "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ",
        "xen_scheduler": "credit2", "xen_pagesize": 4096, "xend_config_format": 4,
    }  # fmt: skip
    for key, value in said.items():
        print(f"{key:23}: {value}")


def list_(host: Host, options: set[str], who: str = "") -> None:
    chosen = list(domains.domains(host.root))
    if who:
        number = identify(host, who)
        chosen = [each for each in chosen if str(each.domid) == number]
        if not chosen and number != "0":
            raise Failure(f"libxl: error: libxl_domain.c:354:libxl_domain_info: Domain {number}:Getting domain info: "
                          "No such process", f"Error: Domain '{number}' does not exist.")  # fmt: skip
    if options & {"-l", "--long"}:
        first = {"c_info": {"type": "pv", "name": "Domain-0"}, "b_info": {"target_memkb": _DOM0 * 1024, "type.pv": {}}}
        all_of_them: list[dict[str, Any]] = [] if who else [{"domid": 0, "config": first}]
        print(json.dumps([*all_of_them, *({"domid": d.domid, "config": d.config} for d in chosen)], indent=4) + "\n")
        return
    long = bool(options & {"-v", "--verbose"})
    print(_TITLES + (_LONG if long else ""))
    if not who or who == "0":
        _row("Domain-0", 0, _DOM0, "r-----", "00000000-0000-0000-0000-000000000000", "-", long)
    for each in chosen:
        _row(each.name, each.domid, each.memory, each.flags(), each.config["c_info"]["uuid"],
             _REASONS.get(each.said, "-"), long)  # fmt: skip


def _row(name: str, domid: int, memory: int, flags: str, uuid: str, reason: str, long: bool) -> None:
    more = f" {uuid} {reason:>8} {'-':>16}" if long else ""
    print(f"{name:40} {domid:5} {memory:5} {1:5}     {flags}  {time.process_time():8.1f}{more}")


def domid(host: Host, options: set[str], who: str) -> None:
    found = domains.find(host.root, who)
    if found is None or found.name != who:
        raise Failure(f"Can't get domid of domain name '{who}', maybe this domain does not exist.")
    print(found.domid)


def domname(host: Host, options: set[str], who: str) -> None:
    found = domains.find(host.root, who) if who.isdecimal() else None
    if found is None:
        raise Failure(f"Can't get domain name of domain id '{who}', maybe this domain does not exist.")
    print(found.name)
