"""The self-extracting file: runs on a bare Python, unpacks itself once, and trusts no directory open to others."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.plan import document

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
BARE = sys._base_executable  # type: ignore[attr-defined]  # the Python that our virtual environment was made from
OURS = f"{sys.version_info.major}.{sys.version_info.minor}"


def build(folder: Path, *arguments: str) -> Path:
    argv: list[str | Path] = [sys.executable, "tools/bundle.py", "--output", folder, *arguments]
    subprocess.run(argv, cwd=ROOT, check=True, capture_output=True)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "one.yaml").write_text("version: 1\ndomain: d00000\nsnapshot: one\n")
    (tmp_path / "facts.json").write_text(json.dumps(document(1)))
    return tmp_path


def call(argv: list[str | Path], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a bundle where nothing of ours is to be found but the bundle itself."""
    env = {"PATH": "/usr/bin:/bin", "DOMSNAP_CACHE": str(folder / "cache"), **more}
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False)


COMMANDS = [
    ["validate", "one.yaml"],
    ["plan", "one.yaml", "--facts", "facts.json", "-v"],
    ["plan", "one.yaml", "--facts", "facts.json", "--format", "html"],
    ["script", "one.yaml", "--facts", "facts.json"],
    ["validate", "missing.yaml"],
    ["schema", "facts"],
    ["man"],
]


def test_a_bare_python_runs_it_and_it_answers_as_the_checkout_does(bundle: Path, folder: Path) -> None:
    for words in COMMANDS:
        there = call([BARE, "-I", "-S", bundle, *words], folder)
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        argv = [sys.executable, "-m", "domsnap", *words]
        here = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert (there.returncode, there.stdout, there.stderr) == (here.returncode, here.stdout, here.stderr)


def test_it_finds_its_python_and_leaves_alone_what_lies_about(bundle: Path, folder: Path) -> None:
    (folder / "jsonschema.py").write_text("raise SystemExit('the wrong jsonschema')\n")
    done = call([bundle, "validate", "one.yaml"], folder, DOMSNAP_PYTHON=BARE, PYTHONPATH=str(folder))
    assert (done.returncode, done.stdout, done.stderr) == (0, "one.yaml: valid (d00000/one)\n", "")


def test_it_unpacks_once_for_its_user_alone(bundle: Path, folder: Path) -> None:
    umask = os.umask(0)
    try:
        call([BARE, bundle, "--version"], folder)
    finally:
        os.umask(umask)
    (unpacked,) = (folder / "cache").iterdir()
    assert (folder / "cache").stat().st_mode & 0o777 == 0o700
    assert unpacked.stat().st_mode & 0o777 == 0o700
    before = (unpacked / "domsnap" / "cli.py").stat()
    call([BARE, bundle, "--version"], folder)
    after = (unpacked / "domsnap" / "cli.py").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_several_at_once_unpack_without_harm(bundle: Path, folder: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "DOMSNAP_CACHE": str(folder / "cache")}
    argv = [BARE, bundle, "validate", "one.yaml"]
    running = [
        subprocess.Popen(argv, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)
    ]
    assert [each.communicate() for each in running] == [(b"one.yaml: valid (d00000/one)\n", b"")] * 4
    assert len(list((folder / "cache").iterdir())) == 1


def test_it_waits_for_another_that_is_unpacking(bundle: Path, folder: Path) -> None:
    (folder / "cache").mkdir(mode=0o700)
    env = {"PATH": "/usr/bin:/bin", "DOMSNAP_CACHE": str(folder / "cache")}
    held = os.open(folder / "cache", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    running = subprocess.Popen([BARE, bundle, "validate", "one.yaml"], cwd=folder, env=env, stdout=subprocess.PIPE)
    while not re.search(rf"-> FLOCK .* {running.pid} ", Path("/proc/locks").read_text()):
        assert running.poll() is None
    assert list((folder / "cache").iterdir()) == []
    os.close(held)
    assert running.communicate()[0] == b"one.yaml: valid (d00000/one)\n"


@pytest.mark.parametrize("harm", ["truncate", "remove"])
def test_what_a_power_cut_or_a_cleaner_took_is_unpacked_again(bundle: Path, folder: Path, harm: str) -> None:
    call([BARE, bundle, "--version"], folder)
    (unpacked,) = (folder / "cache").iterdir()
    victim = unpacked / "schema" / "diagnostic.py"
    victim.write_bytes(b"") if harm == "truncate" else victim.unlink()
    done = call([BARE, bundle, "validate", "one.yaml"], folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((folder / "cache").iterdir())) == 1


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_cache_that_others_may_write_to_is_refused(bundle: Path, folder: Path, mode: int) -> None:
    (folder / "cache").mkdir()
    (folder / "cache").chmod(mode)
    done = call([BARE, bundle, "--version"], folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "other users could change it" in done.stderr
    assert list((folder / "cache").iterdir()) == []


def test_a_cache_below_a_directory_that_others_may_write_to_is_refused(bundle: Path, folder: Path) -> None:
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    done = call([BARE, bundle, "--version"], folder, DOMSNAP_CACHE=str(folder / "open" / "cache"))
    assert done.returncode == 1
    assert f"will not unpack below {folder / 'open'}" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_cache_of_somebody_else_is_refused(bundle: Path, folder: Path) -> None:
    (folder / "cache").mkdir(mode=0o700)
    os.chown(folder / "cache", 65534, 65534)
    done = call([BARE, bundle, "--version"], folder)
    assert done.returncode == 1
    assert "owner 65534" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_unpacked_files_of_somebody_else_are_not_run(bundle: Path, folder: Path) -> None:
    call([BARE, bundle, "--version"], folder)
    (unpacked,) = (folder / "cache").iterdir()
    os.chown(unpacked, 65534, 65534)
    done = call([BARE, bundle, "--version"], folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "owner 65534" in done.stderr


def test_the_home_is_the_accounts_own_whatever_home_says(bundle: Path, folder: Path) -> None:
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".cache" / "domsnap"
    before = set(home.glob("*"))
    done = call([BARE, bundle, "--version"], folder, DOMSNAP_CACHE="", HOME=str(folder))
    made = set(home.glob("*")) - before
    for each in made:
        shutil.rmtree(each)
    assert made or str(home.parent) in done.stderr
    assert not (folder / ".cache").exists()


def test_a_relative_cache_is_refused(bundle: Path, folder: Path) -> None:
    assert "absolute" in call([BARE, bundle, "--version"], folder, DOMSNAP_CACHE="cache").stderr


def test_a_damaged_file_is_refused(bundle: Path, folder: Path) -> None:
    data = bytearray(bundle.read_bytes())
    at = data.index(b"payload.zip") + 200_000
    data[at] ^= 1
    (folder / "damaged.run").write_bytes(data)
    done = call([BARE, folder / "damaged.run", "--version"], folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("domsnap: this file is damaged: ")
    assert list((folder / "cache").iterdir()) == []


def test_half_a_file_is_no_traceback(bundle: Path, folder: Path) -> None:
    data = bundle.read_bytes()
    (folder / "half.run").write_bytes(data[: len(data) // 2])
    (folder / "half.run").chmod(0o755)
    done = call([folder / "half.run", "--version"], folder, DOMSNAP_PYTHON=BARE)
    assert done.returncode == 1
    assert f"damaged: it should have {len(data)} bytes" in done.stderr


def test_another_python_is_told_which_one_is_needed(bundle: Path, folder: Path) -> None:
    text = bundle.read_bytes().replace(f"({OURS.replace('.', ', ')})".encode(), b"(3, 99)")
    (folder / "other.run").write_bytes(text)
    (folder / "other.run").chmod(0o755)
    done = call([folder / "other.run", "--version"], folder)
    assert done.returncode == 1
    assert f"needs Python {OURS}" in done.stderr


def test_it_is_made_for_other_pythons_too(tmp_path: Path, folder: Path) -> None:
    there = other_python()
    if there is None:
        pytest.skip("there is no second Python, 3.11 or newer, on this machine")
    python, version = there
    made = build(tmp_path / "other", "--python", version)
    assert made.name.endswith(f"-py{version.replace('.', '')}.run")
    done = call([python, "-I", "-S", made, "plan", "one.yaml", "--facts", "facts.json", "--json"], folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["snapshot"] == "one"
    wrong = call([BARE, "-I", "-S", made, "--version"], folder)
    assert wrong.returncode == 1
    assert f"this file is for Python {version}" in wrong.stderr


def other_python() -> tuple[str, str] | None:
    """Return another Python than ours that works, newest first, and its version."""
    for minor in range(14, 10, -1):
        version = f"3.{minor}"
        pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
        for python in [*map(str, pyenv), shutil.which(f"python{version}")]:
            said = [python or "false", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
            done = subprocess.run(said, capture_output=True, text=True, check=False)
            if version != OURS and done.stdout.strip() == version and python:
                return python, version
    return None


def test_the_same_sources_give_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    assert build(tmp_path / "again").read_bytes() == bundle.read_bytes()
