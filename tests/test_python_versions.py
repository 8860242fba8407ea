"""The same spec and facts give the same bytes under every Python that domsnap runs on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent

# Every example and golden case, over all facts that it can be planned with: digests of plan, preview and script.
PRINTED = """
import hashlib, json
from pathlib import Path
from domsnap import Refused, compile_plan, facts_from_json, offline_facts, read_json, read_specs, script
from domsnap.preview import preview

def cases():
    recorded = sorted(Path("specs/facts").glob("*.json"))
    for spec in sorted(Path("specs").glob("*.yaml")):
        yield from ((spec, facts) for facts in [None, *recorded])
    for spec in sorted(Path("tests/golden").glob("*/spec.yaml")):
        facts = spec.with_name("facts.json")
        yield spec, facts if facts.exists() else None

told = {}
for path, file in cases():
    known = facts_from_json(read_json("facts", file.read_bytes(), file.name)) if file else None
    for spec in read_specs(path.read_bytes(), path.name):
        for verb in ("create", "revert", "delete"):
            name = f"{path} {file} {spec.snapshot} {verb}"
            try:
                plan = compile_plan(verb, spec, known or offline_facts(spec), offline=known is None)
            except Refused as refused:
                told[name] = str(refused)
                continue
            text = plan.text() + preview(plan, verbose=True)
            try:
                text += script(plan)
            except Refused as refused:  # a live capture
                text += str(refused)
            told[name] = plan.id + " " + hashlib.sha256(text.encode()).hexdigest()
print(json.dumps(told))
"""


def others() -> dict[str, str]:
    """Return the Pythons of this machine, 3.11 or newer, that are not ours: version to path."""
    found = {}
    for minor in range(11, 16):
        version = f"3.{minor}"
        places = [*map(str, sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))), f"python{version}"]
        for place in places:
            if not (python := shutil.which(place)):
                continue
            say = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
            done = subprocess.run([python, "-c", say], capture_output=True, text=True, check=False)
            if done.stdout.strip() == version and version != f"{sys.version_info.major}.{sys.version_info.minor}":
                found[version] = python
                break
    return found


def equipped(python: str, version: str) -> Path:
    """Return a Python of that version with the libraries that domsnap needs, kept for the next run."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        needed = tomllib.load(file)["project"]["dependencies"]
    name = f"{version}-{hashlib.sha256(json.dumps([python, needed]).encode()).hexdigest()[:12]}"
    there = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "domsnap-tests" / name
    if not (there / "ready").exists():
        shutil.rmtree(there, ignore_errors=True)
        subprocess.run([python, "-m", "venv", there], check=True)
        subprocess.run([there / "bin" / "python", "-m", "pip", "install", "-qq", *needed], check=True)
        (there / "ready").touch()
    return there / "bin" / "python"


def printed(python: str | Path) -> dict[str, str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [python, "-W", "error", "-c", PRINTED], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, str] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def ours() -> dict[str, str]:
    told = printed(sys.executable)
    assert any(len(text) == 129 for text in told.values())
    return told


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_plans_previews_and_scripts_are_byte_identical(ours: dict[str, str], version: str) -> None:
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        assert printed(sys.executable) == ours
        return
    if version not in (there := others()):
        pytest.skip(f"there is no Python {version} on this machine")
    assert printed(equipped(there[version], version)) == ours
