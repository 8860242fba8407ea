"""A stand-in `xl`: the command line, words and exit statuses of Xen's, over domains that are QEMUs.

What it says and how it ends was recorded on Xen 4.17 and 4.20 (tests/recorded/).
"""

from __future__ import annotations

import getopt
import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox import config, domains, listing, lives, migrate, qemu
from tests.sandbox.toolstack import Failure, Host, say


@dataclass(frozen=True, slots=True)
class Command:
    act: Callable[..., None]
    usage: str
    short: str = ""
    long: tuple[str, ...] = ()
    operands: tuple[int, int] = (1, 1)
    about: str = ""


COMMANDS = {
    "info": Command(listing.info, "", "n", ("numa",), (0, 0)),
    "list": Command(
        listing.list_, "[options] [Domain]", "lvhZcn", ("long", "verbose", "context", "cpupool", "numa"), (0, 1)
    ),
    "domid": Command(listing.domid, "<DomainName>"),
    "domname": Command(listing.domname, "<DomainId>"),
    "create": Command(lives.create, "<ConfigFile> [options] [vars]", "pnqecFV", ("quiet",)),
    "save": Command(lives.save, "[options] <Domain> <CheckpointFile> [<ConfigFile>]", "cpD", (), (2, 3)),
    "restore": Command(lives.restore, "[options] [<ConfigFile>] <CheckpointFile>", "pedVAFc", (), (1, 2)),
    "migrate": Command(migrate.migrate, "[options] <Domain> <host>", "s:C:epD", ("live", "debug"), (2, 2)),
    "pause": Command(lives.pause, "<Domain>"),
    "unpause": Command(lives.unpause, "<Domain>", about="Unpause a paused domain."),
    "resume": Command(lives.resume, "<Domain>"),
    "destroy": Command(lives.destroy, "[options] <Domain>", "f"),
    "shutdown": Command(lives.shutdown, "[options] <-a|Domain>", "wF", ("wait",)),
    "reboot": Command(lives.reboot, "[options] <-a|Domain>", "wF", ("wait",)),
    "config-update": Command(lives.config_update, "<Domain> <ConfigFile> [options] [vars]", "", (), (2, 2)),
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
    hang = host.root / f"hang-{name}"
    if hang.exists():
        hang.unlink()
        time.sleep(3600)
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
        if failure.said:
            say(*failure.said)
        return failure.status
    return 0
