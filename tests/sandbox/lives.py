"""The commands of the stand-in xl that begin a domain's life, go on with it, and end it.

`save` truncates the file, never syncs it, and leaves what it wrote when it fails; a paused guest cannot be saved;
`pause` and `unpause` exit 0 whatever happens. So does Xen's xl: seen on 4.17 and 4.20.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from tests.sandbox import config, domains, guest, image, qemu
from tests.sandbox.domains import Domain
from tests.sandbox.toolstack import Failure, Host, identify, looked_up, say


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
    domain.clock("running")
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
        suspend(host, domain)
        _write(host, domain, out)
    except (OSError, qemu.Trouble, Failure) as error:
        say(*(error.said if isinstance(error, Failure) else [f"libxl: error: {error}"]))
        let_go(domain)
        raise Failure("Failed to save domain, resuming domain") from None
    finally:
        os.close(out)
    if "-p" in options:
        domain.hold("paused")
    elif "-c" in options:
        _go(domain)
    else:
        domains.remove(domain)


def let_go(domain: Domain) -> None:
    try:
        if domain.held == "suspended":
            _go(domain)
    except qemu.Trouble as trouble:
        say(f"libxl: error: libxl_dom_suspend.c:682:domain_resume_done: Domain {domain.domid}:{trouble}")


def suspend(host: Host, domain: Domain) -> None:
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
    domain.clock("stopped")
    domain.hold("suspended")
    # Before Xen 4.20 the daemon ends when it sees the domain suspended. One that is held by SIGSTOP never sees it.
    if host.version < (4, 20) and domains.alive(domain.monitor) not in ("", "T"):
        qemu.end(domain.monitor[0], signal.SIGKILL)


def _write(host: Host, domain: Domain, out: int) -> None:
    def wait(count: int) -> None:
        take_time(host, count)
        if host.save_fails:
            raise OSError(28, "No space left on device")

    image.write_stream(out, memory(domain), state(domain, live=False), host.version, wait)


def take_time(host: Host, count: int) -> None:
    if host.save_rate:
        time.sleep(count / host.save_rate)


def memory(domain: Domain) -> bytes:
    return (domain.folder / "ram").read_bytes()


def state(domain: Domain, *, live: bool) -> bytes:
    """Return QEMU's state. Where it is to go on elsewhere (`live`), QEMU hands its images over with it."""
    file = domain.folder / "saved"
    with domain.ask() as monitor:
        monitor("xen-save-devices-state", filename=str(file), live=live)
    return file.read_bytes()


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
    if execute == "cont":
        domain.clock("running")
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
