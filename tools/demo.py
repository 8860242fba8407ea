"""Shows plan and script of every spec in specs/ over the recorded facts in specs/facts/.

Each spec is planned over every recorded host that knows its domain, offline where it states all that a plan needs. The
whole output lies in build/demo/; on the screen is the plan, and the head of the script.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from domsnap import facts_from_json, read_json, read_specs
from schema.spec import Spec

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path("build/demo")
HEAD = 24


def main() -> int:
    """Print it all; exit 1 if a spec could be planned over nothing."""
    shutil.rmtree(ROOT / BUILD, ignore_errors=True)
    (ROOT / BUILD).mkdir(parents=True)
    failed = []
    for path in sorted((ROOT / "specs").glob("*.yaml")):
        spec = path.relative_to(ROOT)
        documents = read_specs(path.read_bytes(), str(spec))
        for number, document in enumerate(documents, 1):
            choice = ["--document", str(number)] if len(documents) > 1 else []
            ways = list(_ways(document))
            shown = [_show([str(spec), *way, *choice], _name(spec, way, choice)) for way in ways]
            if not ways or not all(shown):
                failed.append(f"{spec} {document.domain}/{document.snapshot}")
    print(f"All of it: {BUILD}/")
    if failed:
        print(f"Without a plan: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _ways(spec: Spec) -> Iterator[list[str]]:
    """Yield the options with which this snapshot can be planned."""
    for path in sorted((ROOT / "specs" / "facts").glob("*.json")):
        facts = facts_from_json(read_json("facts", path.read_bytes(), path.name))
        if any(domain.name == spec.domain for domain in facts.domains):
            yield ["--facts", str(path.relative_to(ROOT))]
    if spec.assume:
        yield ["--offline"]


def _name(spec: Path, way: list[str], choice: list[str]) -> str:
    return ".".join([spec.stem, *choice[1:], Path(way[-1]).name.removesuffix(".json").lstrip("-")])


def _show(words: list[str], name: str) -> bool:
    """Print the plan and the head of the script, and keep both; say whether it went well."""
    plan, script = _domsnap("plan", *words), _domsnap("script", *words)
    if plan is None or script is None:
        return False
    (ROOT / BUILD / f"{name}.txt").write_text(plan, encoding="utf-8")
    (ROOT / BUILD / f"{name}.sh").write_text(script, encoding="utf-8")
    print(f"$ domsnap plan {' '.join(words)}\n\n{plan}")
    lines = script.splitlines()
    print(f"$ domsnap script {' '.join(words)} | head -n {HEAD}\n")
    print("\n".join(lines[:HEAD]))
    print(f"... {len(lines)} lines in {BUILD / name}.sh\n\n{'=' * 80}\n")
    return True


def _domsnap(*words: str) -> str | None:
    argv = [sys.executable, "-m", "domsnap", *words]
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, check=False, encoding="utf-8")
    if done.returncode:
        print(f"$ domsnap {' '.join(words)}\nexited {done.returncode}\n", file=sys.stderr)
    return None if done.returncode else done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
