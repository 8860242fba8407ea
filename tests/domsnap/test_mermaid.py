from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domsnap.mermaid import _label, mermaid
from domsnap.terminal import safe
from planner.plan import Plan
from tests.domsnap import browser, plans

every_plan = pytest.mark.parametrize("make", plans.ALL, ids=lambda make: make.__name__)


@every_plan
def test_every_step_is_one_message(make: Callable[[], Plan]) -> None:
    numbers = re.findall(r"^    domsnap--?>>(?:xl|qemu|storage): ([0-9]+) ", mermaid(make()), re.MULTILINE)
    assert [int(number) for number in numbers] == [step.number for step in make().steps]


@every_plan
def test_every_box_and_every_bar_is_closed(make: Callable[[], Plan]) -> None:
    words = [line.split()[0] for line in mermaid(make()).splitlines()]
    assert words.count("rect") == words.count("end")
    assert words.count("activate") == words.count("deactivate")


def test_the_box_holds_exactly_the_steps_of_the_stopped_window() -> None:
    text = mermaid(plans.ordinary())
    inside = text[text.index("    rect ") : text.index("\n    end\n")]
    assert re.findall(r">>\w+: ([0-9]+) ", inside) == ["8", "9", "10", "11", "12"]


def test_two_guests_share_one_box_until_the_last_runs() -> None:
    text = mermaid(plans.two())
    inside = text[text.index("    rect ") : text.index("\n    end\n")]
    assert re.findall(r">>\w+: ([0-9]+) ", inside) == ["1", "2", "3", "4"]


def test_steps_go_to_the_one_who_does_them() -> None:
    said = dict(re.findall(r">>(\w+): ([0-9]+) ", mermaid(plans.ordinary())))
    partners = {number: partner for partner, number in re.findall(r">>(\w+): ([0-9]+) ", mermaid(plans.ordinary()))}
    assert said.keys() == {"xl", "qemu", "storage"}
    assert (partners["8"], partners["9"], partners["10"]) == ("xl", "storage", "qemu")


def test_what_is_destroyed_is_said() -> None:
    assert "DESTROYS memory: what web01 holds in it now (running)<br/>" in mermaid(plans.revert())


@given(st.text())
def test_a_label_holds_nothing_that_mermaid_could_take_for_its_own(text: str) -> None:
    label = _label(text)
    assert re.fullmatch(r"([ A-Za-z0-9./,():_+='!?~-]|#[0-9]+;)*", label)
    assert unescape(re.sub(r"#([0-9]+);", r"&#\1;", label)) == safe(text)


@pytest.fixture(scope="session")
def npm_mermaid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real program, from npm: one file for a browser."""
    folder = tmp_path_factory.mktemp("mermaid")
    argv = [
        "npm",
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--prefix",
        str(folder),
        "mermaid@11",
    ]
    subprocess.run(argv, check=True, timeout=300)
    return folder / "node_modules/mermaid/dist/mermaid.min.js"


@pytest.mark.slow
def test_mermaid_itself_reads_and_draws_every_plan(npm_mermaid: Path, tmp_path: Path) -> None:
    texts = json.dumps([mermaid(make()) for make in plans.ALL]).replace("<", "\\u003c")
    page = tmp_path / "diagrams.html"
    page.write_text(f"""<!doctype html><meta charset="utf-8"><body>
<script src="{npm_mermaid.as_uri()}"></script>
<script>
(async () => {{
  mermaid.initialize({{startOnLoad: false}});
  const said = [];
  for (const text of {texts}) {{
    try {{
      await mermaid.parse(text);
      const drawn = new DOMParser().parseFromString((await mermaid.render("d" + said.length, text)).svg, "text/html");
      said.push(drawn.body.textContent + (drawn.querySelector("script") ? "SCRIPT" : ""));
    }} catch (error) {{ said.push("ERROR " + error); }}
  }}
  const result = document.createElement("pre");
  result.id = "result";
  result.textContent = JSON.stringify(said);
  document.body.append(result);
}})();
</script>""")
    seen = browser.look(page)
    result = re.search(r'<pre id="result">(.*?)</pre>', seen.dom, re.DOTALL)
    assert result, seen.console
    drawn = json.loads(unescape(result[1]))
    assert [text for text in drawn if text.startswith("ERROR")] == []
    assert "1 < confirm that web01 is still domain 7" in drawn[0]  # entities come out as the characters they stand for
    assert "<script>alert(1)</script>;#`'\"&{}[]%%end" in drawn[plans.ALL.index(plans.hostile)]
    assert not any(text.endswith("SCRIPT") for text in drawn)
