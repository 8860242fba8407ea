"""The texts that a host's programs printed, and what its kernel said: all that the facts are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schema.diagnostic import Diagnostic


@dataclass(frozen=True, slots=True)
class Running:
    """A process as /proc shows it: field 22 of stat, and where its exe and its standard output (fd/1) point.

    Of a device model, as its command line has it: monitor, the path of its second monitor; restored, whether its guest
    had run before.
    """

    pid: int
    started: int
    exe: str
    stdout: str = ""
    monitor: str = ""
    restored: bool = False


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a host said, each text under the command that printed it: one call of each tool for the whole host.

    observed: an RFC 3339 time. qemu_img_info: by the absolute path of the image that it was called for. qmp: by domid,
    then by command (executor/parse/qmp.py). records: the text of each record.json by its folder; current: of each
    `current` by domain. The rest is asked of the kernel: processes (the device models and every `xl`); inodes,
    "device:inode" by path; links, the resolved path of each target or backing file that is not its own; reflink, the
    mount points where files can share blocks. remarks: what could not be seen, and why.
    """

    observed: str
    xl_info: str
    xl_list: str
    xl_list_long: str
    xenstore: str
    findmnt: str
    df: str
    lvs: str = ""
    vgs: str = ""
    lvm_version: str = ""
    qemu_img_version: str = ""
    zstd_version: str = ""
    qemu_img_info: Mapping[str, str] = field(default_factory=dict)
    qmp: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    records: Mapping[str, str] = field(default_factory=dict)
    current: Mapping[str, str] = field(default_factory=dict)
    processes: tuple[Running, ...] = ()
    inodes: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    reflink: tuple[str, ...] = ()
    save_rate: int = 0
    remarks: tuple[Diagnostic, ...] = ()
