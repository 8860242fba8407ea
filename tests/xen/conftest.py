"""The host that all tests here share, with domsnap in it as its administrator would put it there."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.xen.dom0 import Dom0
from tests.xen.prepared import PYTHON, RESET, prepared
from tests.xen.story import Stopped

BEGUN = time.monotonic()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests alone unless a host was asked for."""
    return None if config.getoption("--release") else True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let every test run on each release that was asked for, one host after the other."""
    asked = metafunc.config.getoption("--release")
    metafunc.parametrize("release", list(PYTHON) if asked == "all" else [asked], scope="session")


@pytest.fixture(autouse=True)
def in_time(request: pytest.FixtureRequest) -> None:
    """Begin nothing any more once --within has passed, what must be built counted: what runs then is not cut off."""
    limit = request.config.getoption("--within")
    if limit is not None and time.monotonic() > BEGUN + 60 * limit:
        pytest.skip(f"the {limit} minutes of --within are over")


@pytest.fixture(autouse=True)
def stopped(release: str, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Stopped:
    """Take note of what runs; return where a test says how long the guest stood still: verb -> seconds of each time."""
    name = request.node.name.replace(f"[{release}]", "").replace(f"{release}-", "")
    cell = name[name.index("[") + 1 : -1] if name.startswith("test_there_and_back") else words(name)
    seconds: Stopped = {}
    record_property("cell", {"cell": cell, "release": release, "stopped": seconds})
    return seconds


def words(name: str) -> str:
    """Return the name of a test as a sentence has it: what it tries is in brackets."""
    name, _, tried = name.removeprefix("test_").partition("[")
    return name.replace("_", " ") + (f" ({tried[:-1]})" if tried else "")


@pytest.fixture(scope="session")
def dom0(release: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dom0]:
    with prepared(release, tmp_path_factory.mktemp("dom0")) as host:
        yield host
        if request.config.getoption("--keep"):
            with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
                input(f"\ndom0 is up; Enter ends it. To get in:\n  {' '.join(host.ssh())}\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the host has to say when a test fails."""
    report = yield
    host = getattr(item, "funcargs", {}).get("dom0")
    if isinstance(host, Dom0):
        host.failed |= report.failed
        if host.failed and report.when == "teardown":
            host.ask(RESET, status=None)
            host.failed, host.cleared = False, host.cleared + 1
    if isinstance(host, Dom0) and report.failed:
        try:
            said = host.ask(
                "xl list; ls -la /srv/vm; find /var/lib/domsnap; lvs; xl dmesg | tail -n 20", status=None, limit=60
            )
        except AssertionError as gone:
            said = str(gone)
        report.sections.append(("dom0", said + host.said()[-1500:]))
    return report
