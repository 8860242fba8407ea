"""Shows plan and script of every spec in specs/ over the recorded facts in specs/facts/.

Each snapshot is planned over every recorded host that knows its domain, and offline where its spec states all that a
plan needs. On the screen is the first of these, plan and head of the script, and of the others the total; the whole
output lies in build/demo/.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from domsnap import Facts, facts_from_json, read_json, read_specs
from schema.spec import Spec

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path("build/demo")
HEAD = 24


def main() -> int:
    """Print it all; return 1 if there is no plan or no script for some snapshot."""
    shutil.rmtree(ROOT / BUILD, ignore_errors=True)
    (ROOT / BUILD).mkdir(parents=True)
    recorded = {
        str(path.relative_to(ROOT)): facts_from_json(read_json("facts", path.read_bytes(), path.name))
        for path in sorted((ROOT / "specs" / "facts").glob("*.json"))
    }
    failed = []
    for path in sorted((ROOT / "specs").glob("*.yaml")):
        name = str(path.relative_to(ROOT))
        specs = read_specs(path.read_bytes(), name)
        for number, spec in enumerate(specs, 1):
            choice = ["--document", str(number)] if len(specs) > 1 else []
            ways = list(_ways(spec, recorded))
            shown = [_show([name, *way, *choice], brief=way != ways[0]) for way in ways]
            if not shown or not all(shown):
                failed.append(f"{name} {spec.domain}/{spec.snapshot}")
    print(f"All of it, plans and whole scripts: {BUILD}/")
    if failed:
        print(f"FAILED: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _ways(spec: Spec, recorded: dict[str, Facts]) -> Iterator[list[str]]:
    """Yield the options with which this snapshot can be planned."""
    for name, facts in recorded.items():
        if any(domain.name == spec.domain for domain in facts.domains):
            yield ["--facts", name]
    if spec.assume:
        yield ["--offline"]


def _show(words: list[str], *, brief: bool) -> bool:
    """Print plan and script, and keep both in files; say whether all is as it should be."""
    name = ".".join(Path(word).name.removesuffix(".yaml").removesuffix(".json").lstrip("-") for word in words)
    plan, planned = _domsnap("plan", words)
    script, printed = _domsnap("script", words)
    (ROOT / BUILD / f"{name}.txt").write_text(plan, encoding="utf-8")
    (ROOT / BUILD / f"{name}.sh").write_text(script, encoding="utf-8")
    if brief:
        totals = "\n".join(line for line in plan.splitlines() if line.startswith("Plan: "))
        print(f"$ domsnap plan {' '.join(words)} | grep ^Plan:\n\n{totals}\n")
    else:
        print(f"{'=' * 80}\n\n$ domsnap plan {' '.join(words)}\n\n{plan}")
        lines = script.splitlines()
        print(f"$ domsnap script {' '.join(words)} | head -n {HEAD}\n")
        print("\n".join(lines[:HEAD]))
        print(f"...\n{len(lines)} lines, all of them in {BUILD / name}.sh\n" if printed else "")
    return planned and printed


def _domsnap(command: str, words: list[str]) -> tuple[str, bool]:
    """Return what domsnap prints, and whether it exited 0."""
    argv = [sys.executable, "-m", "domsnap", command, *words]
    done = subprocess.run(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, encoding="utf-8"
    )
    return done.stdout, done.returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
