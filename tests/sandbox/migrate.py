"""The stand-in `xl migrate`: a live copy of a running guest to whatever its operand starts, by xl's protocol.

Its messages are those of tools/xl/xl_migrate.c. The memory is copied while the guest runs, again as far as it has
changed, and at last while it stands still; QEMU's state is that of a real live migration, its images handed over.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

from tests.sandbox import domains, image, lives, qemu
from tests.sandbox.domains import Domain
from tests.sandbox.toolstack import Failure, Host, looked_up, say

_READY = b"xl migration receiver ready, send binary domain data.\n"
_ROUNDS, _FEW = 5, 50  # light/libxl_dom_save.c: after so many rounds, or with so few pages left, the guest is stopped


def migrate(host: Host, options: set[str], who: str, rune: str) -> None:
    """Do as `xl migrate -s ''`, for which the operand is a line of shell."""
    domain = looked_up(host, who)
    child = subprocess.Popen(["sh", "-c", rune], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert child.stdin and child.stdout
    if _read(child.stdout.fileno(), len(_READY)) != _READY:
        raise Failure("migration receiver stream contained unexpected data instead of ready message",
                      f"(command run was: {rune} )")  # fmt: skip
    say("migration target: Ready to receive domain.")
    try:
        _send(host, domain, child.stdin.fileno())
        answer = os.read(child.stdout.fileno(), 1)
        if answer:  # the domain is somebody else's now
            domains.remove(domain)
            raise AssertionError("the receiver has said something")
        say("libxl: error: libxl_utils.c:510:libxl_read_exactly: file/stream truncated reading ready message from "
            "migration receiver stream")  # fmt: skip
    except (OSError, qemu.Trouble, Failure) as error:
        say(*(error.said if isinstance(error, Failure) else [f"libxl: error: {error}"]),
            "libxl_domain_suspend failed (rc=-3)")  # fmt: skip
    child.stdin.close()
    try:
        child.wait(2)
    except subprocess.TimeoutExpired:
        say(f"migration child [{child.pid}] not exiting, no longer waiting (exit status will be unreported)")
    say("Migration failed, resuming at sender.")
    lives.let_go(domain)
    raise Failure


def _send(host: Host, domain: Domain, out: int) -> None:
    head = image.write_head(out, json.dumps(domain.config).encode())
    say(f"Saving to migration stream new xl format (info {head.info})")
    image.write_passes(
        out, _passes(host, domain), lambda: lives.state(domain, live=True), host.version,
        lambda count: lives.take_time(host, count),
    )  # fmt: skip


def _passes(host: Host, domain: Domain) -> Iterator[dict[int, bytes]]:
    sent = b""
    for _ in range(_ROUNDS):
        now = lives.memory(domain)
        pages = image.pages(now, sent)
        if len(pages) < _FEW:
            break
        yield pages
        sent = now
    lives.suspend(host, domain)
    yield image.pages(lives.memory(domain), sent)


def _read(file: int, size: int) -> bytes:
    data = b""
    while len(data) < size and (part := os.read(file, size - len(data))):
        data += part
    return data
