"""Memory images that are broken: our walker and Xen's own checker agree on each."""

from __future__ import annotations

import pytest

from tests.xen.dom0 import Dom0
from tests.xen.story import CHECKER, STORE, Story

IMAGE = "/srv/image"


def flip(at: int) -> str:
    """Return the command that changes a bit of the image."""
    code = f"f = open('{IMAGE}', 'r+b'); f.seek({at}); b = f.read(1)[0]; f.seek({at}); f.write(bytes([b ^ 4]))"
    return f'python3 -c "{code}"'


# What is done to a whole image -> whether it is still one, as far as its format can say, to us and to Xen's checker.
BROKEN = {
    "true": (True, True),
    f"truncate -s -1 {IMAGE}": (False, False),
    f"truncate -s -8 {IMAGE}": (False, False),
    f"truncate -s 60M {IMAGE}": (False, False),
    f"truncate -s 20 {IMAGE}": (False, False),
    f"truncate -s 0 {IMAGE}": (False, False),
    flip(5): (False, False),  # xl's magic
    flip(32): (False, True),  # its byte order: xl refuses another, Xen's checker does not look at it
    flip(64 * 2**20 + 123): (True, True),  # the contents of a page
}


@pytest.mark.parametrize("kind", ["pvh", "hvm"])
def test_ours_and_xens_look_agree(dom0: Dom0, kind: str) -> None:
    story = Story(dom0, "web01", kind, {"xvda": ("thin", "lvm")}, "script")
    story.take("one")
    differ = []
    for change, whole in BROKEN.items():
        dom0.ask(f"cp {STORE}/web01/one/memory {IMAGE} && {change}")
        ours = dom0.ask(f"sh /root/script.sh --whole {IMAGE}; echo =$?", status=None)
        xens = dom0.ask(f"{CHECKER} <{IMAGE}; echo =$?", status=None)
        if ("=0" in ours, "=0" in xens) != whole:
            differ.append((change, ours[-300:], xens[-300:]))
    dom0.ask(f"rm {IMAGE}")
    story.delete("one")
    story.end()
    assert not differ
