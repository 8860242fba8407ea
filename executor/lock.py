"""One lock for each domain: only one plan is carried out on it at a time, by domsnap or by a printed script."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

RUN = "/run/domsnap"


class Locked(Exception):
    """Another process holds the lock; the text says which, for which plan, and since when."""


@contextmanager
def held(uuid: str, plan: str) -> Iterator[Path]:
    """Hold a domain's lock; raises Locked. Programs do not inherit it; it ends with this process."""
    folder = Path(os.environ.get("DOMSNAP_RUN", RUN))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{uuid}.lock"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(os.pread(file, 500, 0).decode("utf-8", "replace").strip() or "by a process unknown") from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} runs plan {plan} since {now()}\n".encode(), 0)
        yield path
    finally:
        os.close(file)


def now() -> str:
    """Return the time as RFC 3339 has it, in UTC and seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def holder(uuid: str) -> str:
    """Return who holds a domain's lock, in its own words; "" if nobody does."""
    try:
        file = os.open(Path(os.environ.get("DOMSNAP_RUN", RUN)) / f"{uuid}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(file, 500, 0).decode("utf-8", "replace").strip() or "a process unknown"
    else:
        return ""
    finally:
        os.close(file)


def holders() -> dict[str, str]:
    """Return who holds each lock that is held now, by the domain's UUID."""
    try:
        names = os.listdir(os.environ.get("DOMSNAP_RUN", RUN))
    except OSError:
        return {}
    uuids = [name.removesuffix(".lock") for name in names if name.endswith(".lock")]
    return {uuid: who for uuid in uuids if (who := holder(uuid))}
