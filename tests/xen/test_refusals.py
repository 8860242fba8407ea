"""What is refused on a real host, with what is said; the domain and its disks are untouched."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.xen.dom0 import Dom0
from tests.xen.domain import FOLDER
from tests.xen.story import Disks, Story

DISKS: Disks = {"xvda": ("qcow2", "external"), "xvdb": ("thick", "lvm"), "xvdc": ("thin", "lvm")}


@pytest.fixture(scope="module")
def stories(dom0: Dom0) -> Iterator[Callable[[], Story]]:
    """Yield what returns the domain of these tests; it is made when it is needed, and anew when the host was cleared
    since."""
    made: dict[int, Story] = {}  # how often the host had been cleared -> the domain since

    def current() -> Story:
        if dom0.cleared not in made:
            story = made[dom0.cleared] = Story(dom0, "web01", "pvh", DISKS, "apply")
            story.take("one")
        return made[dom0.cleared]

    yield current
    if dom0.cleared in made:
        current().delete("one")
        current().end()


@pytest.fixture
def story(stories: Callable[[], Story]) -> Story:
    """Return a domain with one snapshot."""
    return stories()


def refused(story: Story, verb: str, snapshot: str, *more: str, status: int = 1) -> str:
    """Return what is said when a plan is refused; nothing has changed then."""
    before, state = story.left(), story.state()
    said = story.do(verb, snapshot, *more, status=status)
    assert (story.left(), story.state()) == (before, state)
    return said


# what is done to the domain -> what the refusal says
STATES = {
    "xl pause {name}": "the domain is paused",
    "xl sysrq {name} c": "the domain is crashed",
    "xl shutdown {name}": "the domain is shut down",
}


@pytest.mark.parametrize(
    "change", [pytest.param(change, marks=[pytest.mark.smoke] * (change == "xl pause {name}")) for change in STATES]
)
def test_a_domain_in_an_odd_state(story: Story, change: str) -> None:
    name, ended = story.domain.name, "pause" not in change
    if ended:
        story.off()
        story.dom0.ask(f"sed -i '/^on_/d' {story.domain.cfg}")
        story.dom0.ask(f"echo \"on_poweroff = 'preserve'\non_crash = 'preserve'\" >>{story.domain.cfg}")
        story.domain.create()
        story.domain.whole()
    wait = f"for each in $(seq 100); do xl list {name} | grep -q -e '--s' -e '-p-' && break; sleep 0.3; done"
    story.dom0.ask(f"{change.format(name=name)}; {wait}")
    said = refused(story, "create", "two")
    assert STATES[change] in said, said
    if ended:
        story.off()
        story.on()
    else:
        story.dom0.ask(f"xl unpause {name}")
    story.domain.whole()


def test_a_guest_that_does_not_hear(story: Story) -> None:
    """Its kernel does not look at what the toolstack asks of it: to end, or to let itself be suspended. xl waits 60 s
    for either."""
    name, before, way = story.domain.name, story.left(), story.way
    cfg = story.dom0.ask(f"cat {story.domain.cfg}")
    deaf = "initcall_blacklist=xen_setup_shutdown_event,__setup_shutdown_event"  # its name in Linux 6.12, and in 6.1
    story.off()
    story.dom0.put(story.domain.cfg, cfg.replace("quiet", f"quiet {deaf}"))
    story.on()
    story.dom0.ask(f"rm -f /run/said; {{ xl shutdown {name} & }} </dev/null >/run/said 2>&1; sleep 3")
    assert "it is shutting down" in refused(story, "create", "two")
    story.dom0.ask("until grep acknowledge /run/said; do sleep 1; done")  # it gives up, and leaves its request there
    said = refused(story, "create", "two")
    take_back = re.search("xenstore-write .*", said)
    assert take_back, said
    story.dom0.ask(take_back[0])
    for story.way in ("apply", "live"):
        said = story.do("create", "two", status=5)
        assert "didn't acknowledge suspend" in said and "everything was undone" in said, said
        assert story.left() == before
        story.domain.whole(lines=5)
    story.way = way
    story.off()
    story.dom0.put(story.domain.cfg, cfg)
    story.on()


def test_a_domain_that_is_dying(story: Story) -> None:
    """Somebody holds a page of its memory: it stays in the list, without a name, until that one lets go."""
    hold = (
        "import ctypes as c, time; l = c.CDLL('libxenforeignmemory.so.1');"
        " l.xenforeignmemory_open.restype = c.c_void_p;"
        " m = l.xenforeignmemory_map; m.restype = c.c_void_p; p, e = c.c_uint64(256), c.c_int();"
        f" print(m(c.c_void_p(l.xenforeignmemory_open(None, 0)), {story.domain.domid()}, 1, c.c_size_t(1), c.byref(p),"
        " c.byref(e)), e, flush=True); time.sleep(600)"
    )
    story.dom0.put("/root/hold.py", hold)
    story.dom0.ask("python3 /root/hold.py >/run/held 2>&1 & echo $! >/run/holder; sleep 6; cat /run/held; true")
    story.off()
    listed = story.dom0.ask("xl list")
    assert "d" in listed.splitlines()[-1].split()[-2], listed
    said = refused(story, "create", "two")
    assert "web01.yaml" not in said and "Traceback" not in said and ("off" in said or "dying" in said), said
    story.dom0.ask("kill $(cat /run/holder); rm /root/hold.py; sleep 2")
    story.on()
    story.domain.whole()


@pytest.mark.smoke
def test_a_domain_whose_name_is_a_number(story: Story) -> None:
    """To xl it would be a domid."""
    number = story.domain.domid()
    story.dom0.ask(f"xl rename {number} 123")
    story.dom0.put("/root/123.yaml", 'version: 1\ndomain: "123"\nsnapshot: two\n')
    said = story.dom0.ask("domsnap apply /root/123.yaml --yes", status=1)
    assert "123.yaml:2:9" in said and "digits" in said, said
    assert '"123"' in story.dom0.ask("domsnap observe")
    story.dom0.ask(f"xl rename {number} {story.domain.name}")
    story.domain.whole()


@pytest.mark.smoke
def test_a_domain_with_a_vnuma_configuration(story: Story) -> None:
    story.off()
    cfg = story.dom0.ask(f"cat {story.domain.cfg}")
    vnuma = 'vnuma = [["pnode=0", "size=128", "vcpus=0", "vdistances=10"]]\n'
    story.dom0.put(story.domain.cfg, cfg.replace("'pvh'", "'hvm'") + vnuma)
    story.dom0.ask(f"xl create {story.domain.cfg}")
    said = refused(story, "create", "two")
    assert "vNUMA" in said, said
    story.off()
    story.dom0.put(story.domain.cfg, cfg)
    story.on()
    story.domain.whole()


def test_an_hvm_guest_that_is_still_starting(dom0: Dom0) -> None:
    """It is held before its first instruction, and has not said yet whether it will use its PV drivers."""
    story = Story(dom0, "web02", "hvm", {"xvda": ("qcow2", "external")}, "apply")
    story.take("one")
    story.off()
    dom0.ask(f"xl create -p {story.domain.cfg}")
    said = refused(story, "delete", "one")
    assert "the guest is still starting" in said, said
    dom0.ask(f"xl unpause {story.domain.name}")
    story.domain.whole(lines=4)
    story.delete("one")
    story.end()


@contextmanager
def filled(dom0: Dom0, fill: str, empty: str) -> Iterator[None]:
    dom0.ask(fill)
    try:
        yield
    finally:
        dom0.ask(empty)


@pytest.mark.smoke
def test_a_full_volume_group(story: Story) -> None:
    with filled(story.dom0, "lvcreate -qq -y -Zn -Wn -l 100%FREE -n filler vg0", "lvremove -qq -y vg0/filler"):
        said = refused(story, "create", "two")
    assert "not enough space" in said and "vg0" in said, said
    story.domain.whole()


@pytest.mark.smoke
def test_a_thin_pool_that_is_nearly_full(story: Story) -> None:
    fill = "lvcreate -qq -y -V 300M --thinpool pool -n filler vg0 2>&-"
    fill += " && dd if=/dev/urandom of=/dev/vg0/filler bs=1M count=245"
    with filled(story.dom0, fill, "lvremove -qq -y vg0/filler"):
        said = refused(story, "create", "two")
    assert "the thin pool is nearly full" in said, said
    story.domain.whole()


def greedy(dom0: Dom0, more: int = 0) -> str:
    """Write the configuration of a domain that takes all the memory that there is, and `more` MiB that will be free
    when it is created; return its path."""
    free = int(dom0.ask("xl info free_memory")) + more
    path = "/root/greedy.cfg"
    dom0.put(path, f"name = 'greedy'\ntype = 'pvh'\nkernel = '{FOLDER}/kernel'\nmemory = {free - 60}\n")
    return path


def test_no_memory_to_restore_a_domain_that_is_off(story: Story) -> None:
    story.off()
    with filled(story.dom0, f"sleep 3; xl create -p {greedy(story.dom0)}", "xl destroy greedy; sleep 3"):
        said = refused(story, "revert", "one")
    assert "not enough memory to restore the domain" in said, said
    story.back("one")
    story.delete("pre-revert-1")
