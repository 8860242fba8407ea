"""What the command line answers: documents, options that fit together, exit statuses, errors that say what to do."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.plan import document
from domsnap.door import run

ONE = "version: 1\ndomain: d00000\nsnapshot: one\n"
TWO = "version: 1\ndomain: d00000\nsnapshot: two\n"
OFFLINE = """\
version: 1
domain: web01
snapshot: one
assume: {xen: "4.20", qemu: "10.0", domid: 7, uuid: bbe9b839-51d1-4ac0-8ea2-25778e7005b1, type: pvh, memory: 1GiB}
disks:
  xvda: {method: internal, target: /srv/vm/web01.qcow2, format: qcow2, backend: qdisk, capacity: 10GiB}
"""


class Answer(NamedTuple):
    status: int
    out: str
    err: str


Domsnap = Callable[..., Answer]


@pytest.fixture
def domsnap(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Domsnap:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.yaml").write_text(ONE)
    (tmp_path / "both.yaml").write_text(f"{ONE}---\n{TWO}")
    (tmp_path / "offline.yaml").write_text(OFFLINE)
    (tmp_path / "facts.json").write_text(json.dumps(document(2)))
    capsys.readouterr()

    def call(*arguments: str, stdin: str = "") -> Answer:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        return Answer(run(arguments), *capsys.readouterr())

    return call


def test_validate_names_what_is_valid(domsnap: Domsnap) -> None:
    assert domsnap("validate", "one.yaml", "both.yaml") == (
        0,
        "one.yaml: valid (d00000/one)\nboth.yaml: valid (d00000/one, d00000/two)\n",
        "",
    )


def test_validate_reads_standard_input(domsnap: Domsnap) -> None:
    assert domsnap("validate", "-", stdin=ONE) == (0, "<stdin>: valid (d00000/one)\n", "")


def test_validate_says_all_that_is_wrong_with_all_files(domsnap: Domsnap, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("version: 1\ndomain: 7\nsnapshot: UP\n")
    status, out, err = domsnap("validate", "bad.yaml", "one.yaml", "missing.yaml")
    assert status == 1
    assert out == "one.yaml: valid (d00000/one)\n"
    assert "bad.yaml:2:9" in err
    assert "bad.yaml:3:11" in err
    assert "missing.yaml: No such file or directory" in err


def test_validate_json_has_the_documented_shape(domsnap: Domsnap, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("version: 1\ndomain: web01\nsnapshot: UP\n")
    status, out, err = domsnap("validate", "--json", "bad.yaml", "missing.yaml")
    told = json.loads(out)
    assert (status, err, told["version"]) == (1, "", 1)
    for diagnostic in told["diagnostics"]:
        assert set(diagnostic) == {"file", "line", "column", "path", "severity", "summary", "detail", "hint"}
    assert [(each["file"], each["line"]) for each in told["diagnostics"]] == [("bad.yaml", 3), (None, None)]


def test_validate_json_of_a_valid_file_is_an_empty_list(domsnap: Domsnap) -> None:
    status, out, err = domsnap("validate", "--json", "one.yaml")
    assert (status, json.loads(out), err) == (0, {"version": 1, "diagnostics": []}, "")


@pytest.mark.parametrize("name", ["snapshot", "facts", "plan", "record"])
def test_schema_prints_a_json_schema(domsnap: Domsnap, name: str) -> None:
    status, out, err = domsnap("schema", name)
    assert (status, err) == (0, "")
    assert json.loads(out)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_plan_shows_the_snapshot(domsnap: Domsnap) -> None:
    status, out, err = domsnap("plan", "one.yaml", "--facts", "facts.json")
    assert (status, err) == (0, "")
    assert "take snapshot one of d00000" in out
    assert "\x1b" not in out


def test_plan_shows_every_snapshot_of_a_file(domsnap: Domsnap) -> None:
    status, out, _ = domsnap("plan", "both.yaml", "--facts", "facts.json")
    assert status == 0
    assert out.count("take snapshot") == 2


@pytest.mark.parametrize("which", ["2", "two", "d00000/two"])
def test_document_chooses_one_snapshot(domsnap: Domsnap, which: str) -> None:
    status, out, _ = domsnap("plan", "both.yaml", "--facts", "facts.json", "--document", which)
    assert status == 0
    assert "take snapshot two of d00000" in out
    assert out.count("take snapshot") == 1


@pytest.mark.parametrize("which", ["0", "3", "three", "٢"])
def test_document_that_is_not_there_is_refused_with_those_that_are(domsnap: Domsnap, which: str) -> None:
    status, out, err = domsnap("plan", "both.yaml", "--facts", "facts.json", "--document", which)
    assert (status, out) == (1, "")
    assert "1 d00000/one, 2 d00000/two" in err


def test_what_is_wrong_with_any_snapshot_is_said_and_nothing_else(domsnap: Domsnap, tmp_path: Path) -> None:
    (tmp_path / "none.yaml").write_text(f"{ONE}---\nversion: 1\ndomain: web99\nsnapshot: one\n")
    status, out, err = domsnap("plan", "none.yaml", "--facts", "facts.json")
    assert (status, out) == (1, "")
    assert "web99" in err


def test_plan_without_facts_says_how_to_plan(domsnap: Domsnap) -> None:
    status, out, err = domsnap("plan", "one.yaml")
    assert (status, out) == (1, "")
    assert "--facts" in err
    assert "--offline" in err


def test_plan_offline_needs_no_facts(domsnap: Domsnap) -> None:
    status, out, err = domsnap("plan", "--offline", "offline.yaml")
    assert (status, err) == (0, "")
    assert "take snapshot one of web01" in out


def test_plan_json_is_the_saved_form(domsnap: Domsnap, tmp_path: Path) -> None:
    status, out, _ = domsnap("plan", "one.yaml", "--facts", "facts.json", "--json", "-o", "plan.json")
    assert status == 0
    assert out == (tmp_path / "plan.json").read_text()
    assert (tmp_path / "plan.json").stat().st_mode & 0o777 == 0o600


def test_plan_json_of_several_snapshots_is_one_plan_a_line(domsnap: Domsnap) -> None:
    _, out, _ = domsnap("plan", "both.yaml", "--facts", "facts.json", "--format", "json")
    assert [json.loads(line)["snapshot"] for line in out.splitlines()] == ["one", "two"]


@pytest.mark.parametrize("command", ["plan", "script"])
def test_without_facts_and_without_xl_it_is_said_how_to_plan_elsewhere(
    command: str, domsnap: Domsnap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOMSNAP_PATH", "/nowhere")
    status, out, err = domsnap(command, "one.yaml")
    assert (status, out) == (1, "")
    assert err.startswith("no xl here\n")
    assert "--facts FILE" in err
    assert "--offline" in err


def test_plan_json_gives_refusals_as_json(domsnap: Domsnap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOMSNAP_PATH", "/nowhere")
    status, out, err = domsnap("plan", "one.yaml", "--json")
    assert (status, err) == (1, "")
    assert json.loads(out)["diagnostics"][0]["summary"] == "no xl here"


@pytest.mark.parametrize(("form", "begin"), [("mermaid", "sequenceDiagram"), ("html", "<!doctype html>")])
def test_plan_is_shown_in_other_forms(domsnap: Domsnap, form: str, begin: str) -> None:
    status, out, err = domsnap("plan", "one.yaml", "--facts", "facts.json", "--format", form)
    assert (status, err) == (0, "")
    assert begin in out[:200]


def test_verbose_adds_the_commands(domsnap: Domsnap) -> None:
    _, brief, _ = domsnap("plan", "one.yaml", "--facts", "facts.json")
    _, full, _ = domsnap("plan", "one.yaml", "--facts", "facts.json", "-v")
    assert "xl save -p" in full
    assert "xl save -p" not in brief


def test_detailed_exitcode_says_whether_there_is_something_to_do(domsnap: Domsnap) -> None:
    assert domsnap("plan", "one.yaml", "--facts", "facts.json", "--detailed-exitcode").status == 2
    assert domsnap("plan", "--delete", "one.yaml", "--facts", "facts.json", "--detailed-exitcode").status in (0, 1)


def test_script_is_a_shell_script_with_the_id_of_the_plan(domsnap: Domsnap, tmp_path: Path) -> None:
    domsnap("plan", "one.yaml", "--facts", "facts.json", "-o", "plan.json")
    status, out, err = domsnap("script", "one.yaml", "--facts", "facts.json")
    assert (status, err) == (0, "")
    assert out.startswith("#!/bin/sh\n")
    assert json.loads((tmp_path / "plan.json").read_text())["id"] in out


def test_a_saved_plan_is_shown_and_printed_from_its_file(domsnap: Domsnap, tmp_path: Path) -> None:
    shown = domsnap("plan", "one.yaml", "--facts", "facts.json", "-o", "plan.json").out
    printed = domsnap("script", "one.yaml", "--facts", "facts.json").out
    for file in ("one.yaml", "facts.json"):
        (tmp_path / file).unlink()
    assert domsnap("plan", "plan.json") == (0, shown, "")
    assert domsnap("script", "plan.json") == (0, printed, "")
    assert domsnap("script", "-", stdin=(tmp_path / "plan.json").read_text()) == (0, printed, "")


def test_a_changed_plan_is_refused(domsnap: Domsnap, tmp_path: Path) -> None:
    domsnap("plan", "one.yaml", "--facts", "facts.json", "-o", "plan.json")
    text = (tmp_path / "plan.json").read_text()
    for changed in (text.replace("d00000.qcow2", "d00001.qcow2"), text.replace('"id":"', '"id":"0')):
        (tmp_path / "plan.json").write_text(changed)
        for command in ("plan", "script"):
            status, out, err = domsnap(command, "plan.json")
            assert (status, out) == (1, "")
            assert "plan.json" in err


def test_half_a_plan_is_refused_as_a_plan(domsnap: Domsnap, tmp_path: Path) -> None:
    domsnap("plan", "one.yaml", "--facts", "facts.json", "-o", "plan.json")
    text = (tmp_path / "plan.json").read_text()
    (tmp_path / "plan.json").write_text(text[: len(text) - 40])
    status, out, err = domsnap("plan", "plan.json")
    assert (status, out) == (1, "")
    assert "JSON" in err


@pytest.mark.parametrize("extra", [["--revert"], ["--facts", "facts.json"], ["--offline"], ["--document", "1"]])
def test_a_saved_plan_takes_no_options_that_say_how_to_plan(domsnap: Domsnap, extra: list[str]) -> None:
    domsnap("plan", "one.yaml", "--facts", "facts.json", "-o", "plan.json")
    status, out, err = domsnap("plan", "plan.json", *extra)
    assert (status, out) == (1, "")
    assert extra[0] in err


def test_a_spec_written_as_json_is_a_spec(domsnap: Domsnap, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"version": 1, "domain": "d00000", "snapshot": "one"}')
    assert domsnap("plan", "spec.json", "--facts", "facts.json").status == 0


@pytest.mark.parametrize("command", [["plan", "-o", "x"], ["plan", "--format", "html"], ["script"]])
def test_what_holds_one_plan_takes_one_snapshot(domsnap: Domsnap, tmp_path: Path, command: list[str]) -> None:
    status, out, err = domsnap(*command, "both.yaml", "--facts", "facts.json")
    assert (status, out) == (1, "")
    assert "--document" in err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        ["plan", "one.yaml", "--revert", "--delete"],
        ["plan", "one.yaml", "--facts", "facts.json", "--offline"],
        ["plan", "one.yaml", "--json", "--format", "html"],
        ["plan", "one.yaml", "--format", "pdf"],
        ["plan", "one.yaml", "--discard-current", "--facts", "facts.json"],
        ["plan", "one.yaml", "--allow-drift", "--delete", "--facts", "facts.json"],
        ["plan", "-", "--facts", "-"],
        ["plan", "one.yaml", "--fact", "facts.json"],
        ["plan"],
        ["plan", "one.yaml", "two.yaml"],
        ["schema", "snapshots"],
        ["validate"],
        ["snapshot"],
        [],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_1_and_says_so_on_standard_error(domsnap: Domsnap, wrong: list[str]) -> None:
    status, out, err = domsnap(*wrong)
    assert (status, out) == (1, "")
    assert "--help" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["validate", "plan", "script"])
def test_a_file_that_cannot_be_read_is_one_clean_error(domsnap: Domsnap, tmp_path: Path, command: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text(ONE)
    for name in ("missing.yaml", "folder", "file/below", "nul\0byte", "x" * 5000, ""):
        status, out, err = domsnap(command, name)
        assert (status, out) == (1, ""), name
        assert "cannot read the file" in err


def test_facts_that_cannot_be_read_are_one_clean_error(domsnap: Domsnap, tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name in ("missing.json", "one.yaml", "empty.json", "list.json", "deep.json"):
        status, out, err = domsnap("plan", "one.yaml", "--facts", name)
        assert (status, out) == (1, ""), name
        assert name in err
        assert "bug" not in err


def test_large_facts_that_are_wrong_somewhere_are_one_clean_error(domsnap: Domsnap, tmp_path: Path) -> None:
    facts = document(4000)
    facts["domains"][3999] = {"name": "d03999"}
    (tmp_path / "large.json").write_text(json.dumps(facts))
    status, out, err = domsnap("plan", "one.yaml", "--facts", "large.json")
    assert (status, out) == (1, "")
    assert "large.json" in err
    assert "bug" not in err


def test_an_endless_file_is_refused(domsnap: Domsnap) -> None:
    status, out, err = domsnap("validate", "/dev/zero")
    assert (status, out) == (1, "")
    assert "/dev/zero" in err


def test_a_failure_of_domsnap_itself_is_one_line(domsnap: Domsnap, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("no such thing\nhere")

    monkeypatch.setattr("schema.read.read_specs", broken)
    status, out, err = domsnap("validate", "one.yaml")
    assert (status, out) == (1, "")
    assert "bug in domsnap (KeyError: 'no such thing" in err
    assert "--debug" in err
    assert err.count("\n") == 1
    with pytest.raises(KeyError):
        domsnap("--debug", "validate", "one.yaml")


def test_version(domsnap: Domsnap) -> None:
    from domsnap.version import VERSION

    assert domsnap("--version") == (0, f"domsnap {VERSION}\n", "")


@pytest.mark.parametrize("command", [[], ["validate"], ["schema"], ["plan"], ["script"], ["man"]], ids=" ".join)
def test_help_fits_80_columns_and_explains_every_word(domsnap: Domsnap, command: list[str]) -> None:
    status, out, err = domsnap(*command, "--help")
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "..." not in out.replace("FILE...", "").replace("[ARGS]...", "")


def test_the_help_lists_the_exit_statuses(domsnap: Domsnap) -> None:
    from domsnap.door import EXIT_STATUS

    out = domsnap("--help").out
    assert all(f"{code} " in out and meaning in out for code, meaning in EXIT_STATUS)


def test_recovery_is_for_the_boot_alone_and_with_nothing_to_do_it_says_so(domsnap: Domsnap, tmp_path: Path) -> None:
    assert domsnap("recover", "--boot", "--store", str(tmp_path)) == (0, "", "nothing is left unfinished\n")
    assert domsnap("recover", "--no-boot").status == 1
    assert domsnap("recover").status == 1
