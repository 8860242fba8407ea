"""Values as long as a file may be: refused with few words, or read; never a crash."""

from __future__ import annotations

import pytest

from domsnap.message import message
from schema.diagnostic import Refused
from schema.read import read_specs
from schema.semantics import size
from schema.source import MAX_BYTES

LONG = 900_000
HEAD = "version: 1\ndomain: web01\nsnapshot: one\n"


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}{'k' * LONG}: 1\n",
        f"{HEAD}disks:\n  xvda: {{{'k' * LONG}: 1}}\n",
        f"{HEAD}disks:\n  {'k' * LONG}: {{method: lvm, siez: 1}}\n",
        f"{HEAD}'{'k' * (LONG // 2)}': 1\n'{'k' * (LONG // 2)}': 2\n",
        f"{HEAD}store: !{'t' * LONG} /srv\n",
        f"{HEAD}store: /srv/{'./' * (LONG // 2)}\n",
        f"{HEAD}store: /{'a' * LONG}/../b\n",
        f"version: 1\ndomain: {'W' * LONG}\nsnapshot: one\n",
        f"{HEAD}disks:\n  xvda: {{method: lvm, size: {'9' * LONG}}}\n",
        f"{HEAD}disks:\n  xvda: {{method: lvm, size: {'9' * LONG}.{'9' * 9}GiB}}\n",
        f"{HEAD}disks:\n  xvda: {'I' * LONG}\n",
        f"{'9' * LONG}: 1\n",
        f"version: {'9' * LONG}\n",
    ],
    ids=range(13),
)
def test_a_value_as_long_as_a_file_is_refused_with_few_words(text: str) -> None:
    assert len(text) < MAX_BYTES
    with pytest.raises(Refused) as caught:
        read_specs(text.encode(), "f.yaml")
    for each in caught.value.diagnostics:
        assert len(message(each)) < 1200


@pytest.mark.parametrize("zeros", [0, 10_000])
def test_a_size_of_ten_thousand_digits_is_more_than_any_disk_has(zeros: int) -> None:
    assert size("0" * zeros + "12") == 12
    assert size("0" * zeros + "9" * 10_000 + "KiB") > 2**63
