"""A stand-in `xl`: the command line, words and exit statuses of Xen's, over domains that are QEMUs.

What it says and how it ends was recorded on Xen 4.17 and 4.20 (tests/recorded/). `unpause` and `pause` exit 0 whatever
happens; `save` truncates the file, never syncs it, and leaves what it wrote when it fails; a domain's number is taken
as it is and not looked up; a paused guest cannot be saved.
"""

from __future__ import annotations

import getopt
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.sandbox import config, domains, guest, image, qemu
from tests.sandbox.domains import Domain

_TITLES = "Name                                        ID   Mem VCPUs\tState\tTime(s)"
_LONG = "   UUID                            Reason-Code\tSecurity Label"
_REASONS = {guest.OFF: "0", guest.REBOOT: "1", guest.CRASH: "3"}
_DOM0 = 1024  # MiB


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


def create(host: Host, options: set[str], file: str) -> None:
    try:
        text = Path(file).read_text()
    except OSError as error:
        raise Failure(f"Failed to read config file: {file}: {error.strerror}") from None
    say(f"Parsing config from {file}")
    said = _parsed(text)
    if "-n" in options:
        print(json.dumps(said, indent=4))
        return
    built = _built(host, said, status=3)
    built.source = file
    _begin(built, options)


def _parsed(text: str) -> config.Config:
    try:
        return config.read(text)
    except config.Wrong as error:
        raise Failure(str(error), "Failed to parse config") from None


def _built(host: Host, said: config.Config, status: int, memory: bytes = b"", device: bytes = b"") -> Domain:
    try:
        return domains.build(host.root, said, memory, device)
    except domains.Taken as taken:
        number = taken.domid
        raise Failure(
            f'libxl: error: libxl_domain.c:81:libxl__domain_rename: Domain {number}:Domain with name "'
            f'{said["c_info"]["name"]}" already exists.',
            f"libxl: error: libxl_create.c:1296:initiate_domain_create: Domain {number}:cannot make domain: -6",
            status=status,
        ) from None
    except qemu.Trouble as trouble:
        raise Failure(
            str(trouble),
            "libxl: error: libxl_dm.c:3110:device_model_spawn_outcome: device model: spawn failed (rc=-3)",
            "libxl: error: libxl_create.c:1676:domcreate_devmodel_started: device model did not start: -3",
            status=status,
        ) from None


def _begin(built: Domain, options: set[str]) -> None:
    """Leave the monitor behind, and let the guest go unless it is to stay paused."""
    if "-e" not in options:
        domains.watch(built)
    if "-p" not in options:
        _go(built)


def _go(domain: Domain) -> None:
    with domain.ask() as monitor:
        monitor("cont")
    domain.hold("")


def save(host: Host, options: set[str], who: str, file: str, text: str = "") -> None:
    domain = looked_up(host, who)
    said = _parsed(Path(text).read_text()) if text else domain.config
    try:
        out = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    except OSError as error:
        raise Failure(f"Failed to open temp file {file} for writing: {error.strerror}") from None
    try:
        head = image.write_head(out, json.dumps(said).encode())
        say(f"Saving to {file} new xl format (info {head.info})")
        _suspend(host, domain)
        _write(host, domain, out)
    except (OSError, qemu.Trouble, Failure) as error:
        say(*(error.said if isinstance(error, Failure) else [f"libxl: error: {error}"]))
        _resume(domain)
        raise Failure("Failed to save domain, resuming domain") from None
    finally:
        os.close(out)
    if "-p" in options:
        domain.hold("paused")
    elif "-c" in options:
        _go(domain)
    else:
        domains.remove(domain)


def _resume(domain: Domain) -> None:
    try:
        if domain.held == "suspended":
            _go(domain)
    except qemu.Trouble as trouble:
        say(f"libxl: error: libxl_dom_suspend.c:682:domain_resume_done: Domain {domain.domid}:{trouble}")


def _suspend(host: Host, domain: Domain) -> None:
    """Let the guest agree to be suspended, which one that does not run cannot do (light/libxl_dom_suspend.c).

    One that is suspended already is as good as one that agrees: seen on Xen 4.17.
    """
    if domain.held or domain.said:
        time.sleep(host.patience)
    if domain.held == "suspended":
        return
    if domain.held or domain.said:
        raise Failure("libxl: error: libxl_dom_suspend.c:263:domain_suspend_common_pvcontrol_suspending: Domain "
                      f"{domain.domid}:guest didn't acknowledge suspend, cancelling request")  # fmt: skip
    with domain.ask() as monitor:
        monitor("stop")
    domain.hold("suspended")
    # Before Xen 4.20 the daemon ends when it sees the domain suspended. One that is held by SIGSTOP never sees it.
    if host.version < (4, 20) and domains.alive(domain.monitor) not in ("", "T"):
        qemu.end(domain.monitor[0], signal.SIGKILL)


def _write(host: Host, domain: Domain, out: int) -> None:
    def wait(count: int) -> None:
        if host.save_rate:
            time.sleep(count / host.save_rate)
        if host.save_fails:
            raise OSError(28, "No space left on device")

    state = domain.folder / "saved"
    with domain.ask() as monitor:
        monitor("xen-save-devices-state", filename=str(state), live=False)
    memory = (domain.folder / "ram").read_bytes()
    image.write_stream(out, memory, state.read_bytes(), host.version, wait)


def restore(host: Host, options: set[str], *files: str) -> None:
    file = files[-1]
    try:
        source = open(file, "rb")  # noqa: SIM115  # closed below
    except OSError as error:
        raise Failure(f"Can't open restore file: {error.strerror}") from None
    with source:
        try:
            head = image.read_head(source)
            say(f"Loading new save file {file} (new xl fmt info {head.info})")
            say(" Savefile contains xl domain config in JSON format")
            say(f"Parsing config from {files[0] if len(files) > 1 else '<saved>'}")
            said = _parsed(Path(files[0]).read_text()) if len(files) > 1 else json.loads(head.config)
            memory, device = image.read_stream(source, int(said["b_info"]["target_memkb"]) * 1024)
        except image.Truncated:
            raise Failure("Savefile truncated.") from None
        except (image.NotXl, ValueError, LookupError) as error:
            raise Failure(str(error)) from None
    _begin(_built(host, said, 1, memory, device), options)


def pause(host: Host, options: set[str], who: str) -> None:
    _whatever(host, who, "Pausing", "stop", "paused")


def unpause(host: Host, options: set[str], who: str) -> None:
    _whatever(host, who, "Unpausing", "cont", "")


def resume(host: Host, options: set[str], who: str) -> None:
    """Let a suspended guest go on: Xen 4.20 and later."""
    if host.version < (4, 20):
        raise Failure("command not implemented")
    _whatever(host, who, "Resuming", "cont", "")


def _whatever(host: Host, who: str, what: str, execute: str, held: str) -> None:
    """Do it if it can be done; exit 0 in any case, as xl does (tools/xl/xl_vmcontrol.c discards what libxl says)."""
    number = identify(host, who)
    domain = domains.find(host.root, number)
    if domain is None:
        say(f"libxl: error: libxl_dom.c:37:libxl__domain_type: Domain {number}:unable to get dominfo: No such process")
        return
    fitting = {"Pausing": "", "Unpausing": "paused", "Resuming": "suspended"}[what]
    if domain.held != fitting or (domain.said and execute == "cont"):
        say(f"libxl: error: libxl_domain.c:684:domain_unpause_done: Domain {number}:{what} domain: Invalid argument")
        return
    try:
        with domain.ask() as monitor:
            monitor(execute)
    except qemu.Trouble as trouble:
        say(f"libxl: error: libxl_domain.c:684:domain_unpause_done: Domain {number}:{trouble}")
        return
    domain.hold(held)


def destroy(host: Host, options: set[str], who: str) -> None:
    number = identify(host, who)
    domain = domains.find(host.root, number)
    if domain is None:
        raise Failure(
            f"libxl: error: libxl_domain.c:354:libxl_domain_info: Domain {number}:Getting domain info: No such process",
            f"libxl: error: libxl_domain.c:1179:libxl__destroy_domid: Domain {number}:Non-existant domain",
            f"libxl: error: libxl_domain.c:1133:domain_destroy_callback: Domain {number}:Unable to destroy guest",
            f"libxl: error: libxl_domain.c:1060:domain_destroy_cb: Domain {number}:Destruction of domain failed",
            "destroy failed (rc=-21)",
        )
    domains.remove(domain)


def shutdown(host: Host, options: set[str], who: str) -> None:
    domain = looked_up(host, who)
    say(f"Shutting down domain {domain.domid}")
    domain.word(guest.ASKED, guest.OFF)
    if options & {"-w", "--wait"}:
        _said(domain)


def reboot(host: Host, options: set[str], who: str) -> None:
    """Let the guest reboot, and do what the daemon would: without one the domain stays as it is, dead."""
    domain = looked_up(host, who)
    say(f"Rebooting domain {domain.domid}")
    domain.word(guest.ASKED, guest.REBOOT)
    _said(domain)
    if domains.alive(domain.monitor):
        domains.remove(domain)
        _begin(_built(host, domain.config, 1), set())


def _said(domain: Domain) -> None:
    limit = time.monotonic() + 30
    while not domain.said and time.monotonic() < limit:
        time.sleep(0.01)


def config_update(host: Host, options: set[str], who: str, file: str) -> None:
    """Check the file and change nothing: on Xen 4.20 `xl list -l` was seen to show the old paths afterwards."""
    looked_up(host, who)
    say("WARNING: xl now has better capability to manage domain configuration, avoid using this command when possible")
    _parsed(Path(file).read_text())


@dataclass(frozen=True, slots=True)
class Command:
    act: Callable[..., None]
    usage: str
    short: str = ""
    long: tuple[str, ...] = ()
    operands: tuple[int, int] = (1, 1)
    about: str = ""


COMMANDS = {
    "info": Command(info, "", "n", ("numa",), (0, 0)),
    "list": Command(list_, "[options] [Domain]", "lvhZcn", ("long", "verbose", "context", "cpupool", "numa"), (0, 1)),
    "domid": Command(domid, "<DomainName>"),
    "domname": Command(domname, "<DomainId>"),
    "create": Command(create, "<ConfigFile> [options] [vars]", "pnqecFV", ("quiet",)),
    "save": Command(save, "[options] <Domain> <CheckpointFile> [<ConfigFile>]", "cpD", (), (2, 3)),
    "restore": Command(restore, "[options] [<ConfigFile>] <CheckpointFile>", "pedVAFc", (), (1, 2)),
    "pause": Command(pause, "<Domain>"),
    "unpause": Command(unpause, "<Domain>", about="Unpause a paused domain."),
    "resume": Command(resume, "<Domain>"),
    "destroy": Command(destroy, "[options] <Domain>", "f"),
    "shutdown": Command(shutdown, "[options] <-a|Domain>", "wF", ("wait",)),
    "reboot": Command(reboot, "[options] <-a|Domain>", "wF", ("wait",)),
    "config-update": Command(config_update, "<Domain> <ConfigFile> [options] [vars]", "", (), (2, 2)),
}


def call(host: Host, words: list[str]) -> None:
    """Do what a command line says; raises Failure."""
    outer, rest = getopt.getopt(words, "vftTN")
    if not rest:
        raise Failure("Usage: xl [-vfNtT] <subcommand> [args]")
    name, *words = rest
    command = COMMANDS.get(name)
    if command is None:
        raise Failure("command not implemented")
    if ("-N", "") in outer and name not in ("create", "config-update"):
        raise Failure("command does not implement -N (dryrun) option")
    try:
        given, operands = getopt.gnu_getopt(words, command.short, [*command.long])
    except getopt.GetoptError as error:
        raise Failure(f"option `{error.opt}' not supported.", status=2) from None
    least, most = command.operands
    if len(operands) < least:
        many = "argument" if least == 1 else "arguments"
        raise Failure(f"'xl {name}' requires at least {least} {many}.", "",
                      f"Usage: xl [-vtTf] {name} {command.usage}", "", command.about, status=2)  # fmt: skip
    options = {option for option, _ in given} | ({"-n"} if ("-N", "") in outer else set())
    command.act(host, options, *operands[:most])


def main(argv: list[str]) -> int:
    """Do as the program `xl`, or `xenstore-ls`, of the stand-in host whose folder it lies in."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    root = Path(argv[0]).absolute().parent.parent
    if Path(argv[0]).name == "xenstore-ls":
        for each in domains.domains(root):
            shown = each.device_model[0] if each.device_model and qemu.served(each.config) else 0
            for path, value in config.xenstore(each.domid, each.config, shown):
                print(f'{path} = "{value}"   (n0,r{each.domid})')
        return 0
    try:
        call(Host(root, **json.loads((root / "host.json").read_text())), argv[1:])
    except Failure as failure:
        say(*failure.said)
        return failure.status
    return 0
