"""Options that every test may ask for, and which tests must not run beside one another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Survived = Callable[[str, int, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite the expected files of golden tests")
    parser.addoption("--release", help="run the tests in tests/xen, and on this host: bookworm, trixie, or all")
    parser.addoption("--keep", action="store_true", help="tests/xen: leave the host up until Enter, to look around")
    parser.addoption("--within", type=int, metavar="MINUTES", help="tests/xen: begin no test after so many minutes")
    parser.addoption(
        "--faults", metavar="FILE", help="write the faults that were survived, and what ran on Xen, to this file"
    )


@pytest.fixture
def survived(record_property: Callable[[str, object], None]) -> Survived:
    """Return what takes note of a fault that a test made: the fault, at how many instants, and how it ended."""

    def note(fault: str, instants: int, outcome: str) -> None:
        record_property("fault", {"fault": fault, "instants": instants, "outcome": outcome})

    return note


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--faults")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Faults(Path(path)))


class _Faults:
    """Writes what tests noted, and whether they have passed; those of all workers come by here."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        with self.path.open("a") as file:
            for name, said in report.user_properties:
                if name in ("fault", "cell"):
                    noted: dict[str, Any] = {**dict(said), "passed": report.passed}  # type: ignore[call-overload]
                    file.write(json.dumps(noted) + "\n")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the guests of the sandbox to one worker: `apply` looks for a domain's xl by its name, on the whole host."""
    for item in items:
        if "sandbox" in item.path.parts or "demo" in item.name:
            item.add_marker(pytest.mark.xdist_group("sandbox"))
