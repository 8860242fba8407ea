from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from domsnap.page import page
from domsnap.terminal import safe
from planner.plan import Plan
from tests.domsnap import browser, plans

every_plan = pytest.mark.parametrize("make", plans.ALL, ids=lambda make: make.__name__)
VOID = {"meta", "br", "line", "circle", "rect", "img", "hr", "link", "input"}


class Tree(HTMLParser):
    """Reads a page and holds that every element is closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.seen if name == tag]

    def within(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    def said(self) -> str:
        return re.sub(r"\s+", " ", "".join(text for tag, text in self.texts if tag not in ("style", "title", "desc")))


@every_plan
def test_the_page_is_well_formed_and_asks_for_nothing(make: Callable[[], Plan]) -> None:
    tree = Tree(page(make()))
    tags = {tag for tag, _ in tree.seen}
    assert not tags & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "input",
        "base",
        "a",
        "video",
        "use",
        "image",
    }
    for _, attributes in tree.seen:
        assert not {"src", "href", "xlink:href", "srcset", "action"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in page(make()).replace("url(#hatch)", "")
    assert any("default-src 'none'" in (meta.get("content") or "") for meta in tree.all("meta"))


@every_plan
def test_the_page_can_be_read_with_other_senses(make: Callable[[], Plan]) -> None:
    tree = Tree(page(make()))
    assert tree.all("html") == [{"lang": "en"}]
    assert len(tree.all("h1")) == 1
    assert tree.within("title")[0].startswith(safe(tree.within("h1")[0]))
    ids = [attributes["id"] for _, attributes in tree.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [attributes["aria-labelledby"] or "" for _, attributes in tree.seen if "aria-labelledby" in attributes]
    assert set(" ".join(named).split()) <= set(ids)
    assert all(heading.get("scope") in ("col", "row") for heading in tree.all("th"))
    assert all("aria-label" in box or "aria-labelledby" in box for _, box in tree.seen if box.get("role") == "img")
    headings = [int(tag[1]) for tag, _ in tree.seen if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(headings))


def test_nothing_of_a_plan_becomes_markup_or_a_control_character() -> None:
    text = page(plans.hostile())
    assert "<script" not in text
    assert all(line.isprintable() for line in text.split("\n"))
    assert safe(plans.HOSTILE) in Tree(text).said()


@every_plan
def test_every_step_is_listed_with_its_number(make: Callable[[], Plan]) -> None:
    tree = Tree(page(make()))
    assert [item["value"] for item in tree.all("li") if "value" in item] == [str(step.number) for step in make().steps]


def test_the_stopped_steps_are_marked_in_the_list() -> None:
    items = [item for item in Tree(page(plans.ordinary())).all("li") if "value" in item]
    assert [item["value"] for item in items if item["class"] == "still"] == ["8", "9", "10", "11", "12"]


def test_the_summary_is_in_plain_words() -> None:
    assert (
        "This plan takes a snapshot of the virtual machine web01 on xen1: its memory and 3 of its 4 disks, all at one"
        " instant. The guest stands still once, for about 8.3 to 14 s; before and after that it runs."
        " It destroys nothing."
    ) in Tree(page(plans.ordinary())).said()
    assert "It destroys data; what is lost is listed below." in Tree(page(plans.revert())).said()
    assert (
        "This plan deletes the snapshot before-upgrade of the virtual machine web01"
        in Tree(page(plans.delete())).said()
    )


def test_what_is_destroyed_and_what_is_warned_of_is_listed() -> None:
    items = Tree(page(plans.revert())).within("li")
    assert {*plans.revert().destroys, plans.revert().warnings[0].text} <= set(items)


def test_an_empty_plan_says_that_there_is_nothing_to_do() -> None:
    said = Tree(page(plans.empty())).said()
    assert "There is nothing to do: web01/before-upgrade exists and is what the spec declares." in said
    assert "svg" not in {tag for tag, _ in Tree(page(plans.empty())).seen}


def test_an_offline_plan_says_so_in_a_banner() -> None:
    assert "Offline: no host was observed." in Tree(page(plans.offline())).said()


def test_the_picture_ends_the_promise_of_undo_where_the_text_does() -> None:
    """In the revert the domain is destroyed in step 3 for good: the line stands behind step 2."""
    assert page(plans.ordinary()).count('class="commit"') == 1
    revert, delete = page(plans.revert()), page(plans.delete())
    line = re.search(r'<line class="commit" x1="(\d+)"', revert)
    numbers = {
        number: int(x) for x, number in re.findall(r'<text class="soft" x="(\d+)" y="\d+" [^>]*>(\d+)</text>', revert)
    }
    assert line
    assert numbers["2"] < int(line[1]) < numbers["3"]
    assert 'class="commit"' not in delete


@every_plan
def test_the_same_plan_gives_the_same_page(make: Callable[[], Plan]) -> None:
    assert page(make()) == page(make())


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 500])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_chromium_shows_it_without_an_error_a_request_or_a_sideways_scroll(
    tmp_path: Path, width: int, scheme: str
) -> None:
    for make in plans.ALL:
        file = tmp_path / f"{make.__name__}.html"
        file.write_text(page(make()))
        flag = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
        seen = browser.look(file, flag, size=(width, 900))
        assert seen.console == ()
        assert seen.requests == ()
        assert "In short" in seen.dom
        # The same page, with the policy that forbids scripts taken out, measures itself.
        measure = "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth</script>"
        file.write_text(re.sub(r"<meta http-equiv[^>]*>", "", page(make())).replace("</body>", f"{measure}</body>"))
        scrolled = re.search(r"<title>(\d+) of (\d+)</title>", browser.look(file, size=(width, 900)).dom)
        assert scrolled
        assert int(scrolled[1]) <= int(scrolled[2]), make.__name__


@pytest.mark.slow
def test_the_network_log_would_show_a_request(tmp_path: Path) -> None:
    file = tmp_path / "asks.html"
    file.write_text('<!doctype html><body><img src="http://127.0.0.1:9/x.png"><script>console.log("said")</script>')
    seen = browser.look(file)
    assert seen.requests == ("http://127.0.0.1:9/x.png",)
    assert len(seen.console) == 1
