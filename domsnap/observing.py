"""What `domsnap observe` does, and how a plan without --facts comes by its facts."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from domsnap.door import Ended
from schema.diagnostic import Diagnostic, Refused

if TYPE_CHECKING:
    from executor.outputs import Outputs
    from planner.facts import Facts


def document(names: Collection[str] = (), stores: Collection[str] = ()) -> tuple[bytes, list[Diagnostic]]:
    """Return the facts of this host as JSON that is valid against `facts.schema.json`, and remarks on what they lack.

    They are of the whole host, as an image may have children anywhere; `names` are the domains that must be among them.
    stores: folders with records besides the usual one. Raises Refused.
    """
    import json

    from executor.observe import facts_document
    from schema.validate import check

    outputs = _outputs(names, stores)
    said = facts_document(outputs)
    _refuse_unknown(names, [domain["name"] for domain in said["domains"]])
    wrong = check("facts", said, "what was observed")
    if wrong:
        raise Refused(wrong)
    return (json.dumps(said, indent=2) + "\n").encode(), list(outputs.remarks)


def printed(names: Collection[str] = (), stores: Collection[str] = ()) -> tuple[bytes, list[Diagnostic]]:
    """Return all that the facts are made of, as JSON: the texts that this host's programs printed, by the fields of
    `Outputs`; and remarks on what they lack. Raises Refused."""
    import json
    from dataclasses import asdict

    outputs = _outputs(names, stores)
    return (json.dumps(asdict(outputs), indent=2) + "\n").encode(), list(outputs.remarks)


def facts(names: Collection[str], stores: Collection[str]) -> tuple[Facts, list[Diagnostic]]:
    """Return the facts of this host as they are now, and remarks on what they lack.

    Raises Refused, and Ended(4) while another domsnap is at work on one of `names`: it may hold the guest for a moment,
    and that must not be taken for its state.
    """
    from executor.lock import holders
    from executor.observe import facts as read

    before = holders()
    outputs = _outputs(names, stores)
    seen = read(outputs)
    busy = before | holders()
    for domain in seen.domains:
        if domain.name in names and domain.uuid in busy:
            raise Ended(4, f"domsnap: {domain.name} is locked: {busy[domain.uuid]}")
    return seen, list(outputs.remarks)


def _outputs(names: Collection[str], stores: Collection[str]) -> Outputs:
    from executor.look.host import observe

    return observe(names, stores)


def _refuse_unknown(names: Collection[str], there: list[str]) -> None:
    from schema.validate import did_you_mean

    unknown = [name for name in names if name not in there]
    known = f"here are {', '.join(there)}" if there else "there is none but dom0"
    if unknown:
        raise Refused(
            Diagnostic("no such domain", f"{name!r} does not run and has no record; {known}", hint)
            for name in unknown
            for hint in [did_you_mean(name, there)]
        )
