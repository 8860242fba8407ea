"""Makes dist/domsnap-VERSION-pyXY.run: one file that holds domsnap and all it needs, for a host without pip.

A few of the libraries are compiled, and Python cannot load compiled code from inside a zip file; so the bundle is a few
lines of shell, which find the right Python, followed by a zip file, which Python runs and which unpacks itself once.
The same sources and wheels give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("schema", "planner", "executor", "domsnap")

START = """\
#!/bin/sh
# domsnap {version} for Python {python}. Copy this file to /usr/local/bin/domsnap and run it.
if [ "$(wc -c <"$0")" -ne {size} ]; then
    echo "domsnap: this file is damaged: it should have {size} bytes" >&2
    echo "  hint: copy it here again" >&2
    exit 1
fi
for python in "${{DOMSNAP_PYTHON:-}}" python{python} python3 /usr/bin/python{python} /usr/bin/python3; do
    [ -n "$python" ] || continue
    if "$python" -I -S -c 'import sys; sys.exit(sys.version_info[:2] != {wanted})' 2>/dev/null; then
        exec "$python" -I "$0" "$@"
    fi
done
echo "domsnap: this file needs Python {python}, and there is none on PATH" >&2
echo "  hint: name it in DOMSNAP_PYTHON, or make a bundle for the Python you have" >&2
exit 1
"""


def main() -> None:
    """Make a bundle for the Python that is running, or for `--python`."""
    default = f"{sys.version_info.major}.{sys.version_info.minor}"
    parser = argparse.ArgumentParser(prog="./dev bundle", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--python", default=default, metavar="X.Y", help=f"for which Python (default: {default})")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="DIR", help="where to put it")
    said = parser.parse_args()
    major, minor = (int(part) for part in said.python.split(".")[:2])
    with tempfile.TemporaryDirectory() as scratch:
        wheels = _wheels(Path(scratch), major, minor)
        payload, files = _payload(wheels)
    version = next(wheel for wheel in wheels if wheel.startswith("domsnap-")).split("-")[1]
    bundle = {
        "version": version,
        "python": [major, minor],
        "machine": platform.machine(),
        "digest": hashlib.sha256(payload).hexdigest(),
        "files": files,
    }
    path = said.output / f"domsnap-{version}-py{major}{minor}.run"
    _write(path, _whole(version, major, minor, _outer(bundle, payload)))
    print(f"{path}: {path.stat().st_size // 1024} KiB, {len(files)} files, from {len(wheels)} wheels")


def _wheels(scratch: Path, major: int, minor: int) -> dict[str, bytes]:
    """Return our own wheel and those of all that it needs, name to content, for that Python on this kind of machine."""
    source = scratch / "source"  # a copy: setuptools would take up what an earlier build left in the checkout
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    folder = scratch / "wheels"
    _pip("wheel", "--no-deps", "--wheel-dir", folder, source)
    with (ROOT / "pyproject.toml").open("rb") as file:
        needed = tomllib.load(file)["project"]["dependencies"]
    tags = (f"{tag}_{platform.machine()}" for tag in ("manylinux_2_28", "manylinux_2_17", "manylinux2014"))
    _pip(
        "download", "--only-binary", ":all:", "--dest", folder, "--implementation", "cp",
        "--python-version", f"{major}.{minor}", "--abi", f"cp{major}{minor}", "--abi", "abi3", "--abi", "none",
        *(word for tag in tags for word in ("--platform", tag)),
        *needed,
    )  # fmt: skip
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.whl"))}


def _pip(*words: str | os.PathLike[str]) -> None:
    argv = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--quiet",
        "--quiet",
        *(os.fspath(word) for word in words),
    ]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pip failed: {' '.join(argv)}\n{done.stderr[-2000:]}")


def _payload(wheels: dict[str, bytes]) -> tuple[bytes, list[tuple[str, int]]]:
    """Return a zip file of what the wheels hold, and the name and size of each file in it."""
    contents: dict[str, bytes] = {}
    for wheel in wheels.values():
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            for name in archive.namelist():
                if not name.endswith("/") and ".data/" not in name:
                    contents[name] = archive.read(name)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(contents):
            archive.writestr(_entry(name, zipfile.ZIP_DEFLATED), contents[name])
    return packed.getvalue(), [(name, len(contents[name])) for name in sorted(contents)]


def _outer(bundle: Mapping[str, object], payload: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(_entry("__main__.py", zipfile.ZIP_STORED), (ROOT / "tools" / "unpack.py").read_bytes())
        archive.writestr(_entry("bundle.json", zipfile.ZIP_DEFLATED), json.dumps(bundle))
        archive.writestr(_entry("payload.zip", zipfile.ZIP_STORED), payload)
    return packed.getvalue()


def _whole(version: str, major: int, minor: int, archive: bytes) -> bytes:
    """Return shell and archive; the shell names the size of both, so that it can tell a copy that broke off."""
    size = 0
    while True:
        start = START.format(
            version=version, python=f"{major}.{minor}", wanted=f"({major}, {minor})", size=size
        ).encode()
        if len(start) + len(archive) == size:
            return start + archive
        size = len(start) + len(archive)


def _entry(name: str, kind: int) -> zipfile.ZipInfo:
    """Return a zip entry without the time of day."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = kind
    entry.external_attr = 0o644 << 16
    return entry


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    passing = path.with_name(f".{path.name}.{os.getpid()}")
    passing.write_bytes(data)
    passing.chmod(0o755)
    passing.replace(path)


if __name__ == "__main__":
    main()
