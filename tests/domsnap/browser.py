"""Opens a file in headless Chromium and says what it showed, logged and asked the network for."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CHROMIUM = "/usr/bin/chromium"
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--hide-scrollbars", "--allow-file-access-from-files", "--virtual-time-budget=20000", "--enable-logging=stderr",
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """The page after its scripts ran, its console's lines, and every address that was asked for."""

    dom: str
    console: tuple[str, ...]
    requests: tuple[str, ...]


def look(page: Path, *options: str, size: tuple[int, int] = (1280, 800)) -> Seen:
    """Open a page. Beside it a folder is made for Chromium's own files."""
    log = page.with_suffix(".netlog.json")
    done = _chromium(page, ["--dump-dom", f"--log-net-log={log}", f"--window-size={size[0]},{size[1]}", *options])
    console = tuple(line for line in done.stderr.splitlines() if ":CONSOLE" in line)
    return Seen(done.stdout, console, tuple(_requested(log)))


def shoot(page: Path, picture: Path, size: tuple[int, int], *options: str) -> None:
    """Take a picture of a page in a window of this size."""
    _chromium(page, [f"--screenshot={picture}", f"--window-size={size[0]},{size[1]}", *options])


def _chromium(page: Path, options: Sequence[str]) -> subprocess.CompletedProcess[str]:
    argv = [CHROMIUM, *_FLAGS, f"--user-data-dir={page.parent / 'chromium'}", *options, page.as_uri()]
    return subprocess.run(
        argv, capture_output=True, text=True, check=True, timeout=120, env={**os.environ, "HOME": str(page.parent)}
    )


def _requested(log: Path) -> list[str]:
    """Return every address that the page asked for, itself left out. What Chromium asks on its own has no origin."""
    text = log.read_text().rstrip().rstrip(",")
    document = json.loads(text if text.endswith("}") else text + "]}")
    asked = [event.get("params", {}) for event in document["events"]]
    urls = {
        str(each["url"])
        for each in asked
        if each.get("url") and each.get("initiator", "not an origin") != "not an origin"
    }
    return sorted(url for url in urls if not url.startswith(("file:", "data:")))
