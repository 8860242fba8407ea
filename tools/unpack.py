"""The start of a bundle: unpacks it once into a private directory of the user's, then runs domsnap from there.

This file is `__main__.py` inside the bundle, and needs nothing but the standard library. Every directory on the way to
the unpacked files must belong to root or to the user and be writable by nobody else: domsnap runs as root.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any


def main() -> None:
    """Unpack if need be, and hand over to domsnap."""
    archive = os.path.dirname(os.path.abspath(__file__))
    loader: Any = __loader__  # type: ignore[name-defined]
    bundle = json.loads(loader.get_data(os.path.join(archive, "bundle.json")).decode())
    major, minor = bundle["python"]
    if list(sys.version_info[:2]) != bundle["python"] or os.uname().machine != bundle["machine"]:
        there = f"{major}.{minor} on {bundle['machine']}"
        here = f"{sys.version_info[0]}.{sys.version_info[1]} on {os.uname().machine}"
        stop(f"this file is for Python {there}; this is Python {here}", "make one with ./dev bundle --python VERSION")
    home = cache()
    place = os.path.join(home, f"{bundle['version']}-py{major}{minor}-{bundle['digest'][:16]}")
    if not whole(place, bundle["files"]):
        with locked(home):  # another may be unpacking it just now
            if not whole(place, bundle["files"]):
                unpack(loader.get_data(os.path.join(archive, "payload.zip")), bundle["digest"], home, place)
    guard(place)
    sys.path[0] = place
    from domsnap.__main__ import main as domsnap

    domsnap()


def cache() -> str:
    """Return the directory for unpacked bundles, made if need be: DOMSNAP_CACHE, else in the user's own home.

    The home is the account's, not $HOME: under sudo that may still be another user's.
    """
    said = os.environ.get("DOMSNAP_CACHE", "")
    if not said:
        import pwd

        said = os.path.join(pwd.getpwuid(os.geteuid()).pw_dir, ".cache", "domsnap")
    if not os.path.isabs(said):
        stop(f"DOMSNAP_CACHE must be an absolute path, not {said!r}")
    path = os.path.realpath(said)
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        stop(f"cannot make {path}: {error.strerror}", "name a directory of your own in DOMSNAP_CACHE")
    guard(path)
    while path != "/":
        path = os.path.dirname(path)
        guard(path, above=True)
    return os.path.realpath(said)


def guard(path: str, above: bool = False) -> None:
    """Stop unless nobody else could put something there; a sticky directory above, as /tmp is, keeps what it holds."""
    there = os.lstat(path)
    owners = (0, os.geteuid()) if above else (os.geteuid(),)
    open_to_others = there.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if there.st_mode & stat.S_IWGRP and there.st_gid == 0 and above:
        open_to_others = there.st_mode & stat.S_IWOTH
    if not stat.S_ISDIR(there.st_mode):
        stop(f"{path} is not a directory")
    if there.st_uid not in owners or (open_to_others and not (above and there.st_mode & stat.S_ISVTX)):
        stop(
            f"will not unpack below {path}: other users could change it "
            f"(owner {there.st_uid}, mode {stat.S_IMODE(there.st_mode):o})",
            "name a directory of your own in DOMSNAP_CACHE",
        )


def whole(place: str, files: list[Any]) -> bool:
    """Say whether all is there in its full size: a power cut or a cleaner may have taken some of it."""
    try:
        return all(os.lstat(os.path.join(place, name)).st_size == size for name, size in files)
    except OSError:
        return False


@contextlib.contextmanager
def locked(home: str) -> Iterator[None]:
    """Wait until no other process unpacks there."""
    import fcntl

    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def unpack(payload: bytes, digest: str, home: str, place: str) -> None:
    """Unpack beside and rename, so that nobody ever sees half of it; verified before anything of it is run."""
    import io
    import shutil
    import tempfile
    import zipfile

    if hashlib.sha256(payload).hexdigest() != digest:
        stop("this file is damaged: its content does not have the SHA-256 it was made with", "copy it here again")
    passing = tempfile.mkdtemp(prefix=".unpack-", dir=home)
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            archive.extractall(passing)
        if os.path.lexists(place):
            os.rename(place, os.path.join(passing, "broken"))
        os.rename(passing, place)
    except OSError as error:
        stop(f"cannot unpack into {home}: {error.strerror}", "name a directory with more room in DOMSNAP_CACHE")
    finally:
        shutil.rmtree(passing, ignore_errors=True)
        shutil.rmtree(os.path.join(place, "broken"), ignore_errors=True)


def stop(message: str, hint: str = "") -> None:
    """Say why not, and leave."""
    sys.stderr.write(f"domsnap: {message}\n" + (f"  hint: {hint}\n" if hint else ""))
    sys.exit(1)


if __name__ == "__main__":
    main()
