"""The whole checkout is clean under the linters; `./dev check` runs the same, without pytest."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_everything_is_clean_under_dev_check() -> None:
    done = subprocess.run(["./dev", "check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
