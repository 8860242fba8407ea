"""Options that every test may ask for, and which tests must not run beside one another."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite the expected files of golden tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the guests of the sandbox to one worker: `apply` looks for a domain's xl by its name, on the whole host."""
    for item in items:
        if "sandbox" in item.path.parts or "demo" in item.name:
            item.add_marker(pytest.mark.xdist_group("sandbox"))
