"""A live host becomes the same facts as its recording; what cannot be seen is said, and nothing is followed blindly."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from domsnap import observing
from domsnap.door import run
from domsnap.planning import Request, plans
from executor import observe as reading
from executor.look import ask as funnel
from executor.look.host import observe
from executor.look.monitors import ask_qemus
from executor.look.processes import processes
from executor.look.sharing import shares_blocks
from executor.look.storage import Storage, storage
from executor.outputs import Outputs
from executor.parse import lvm, qmp
from executor.parse.filesystems import filesystems
from planner.facts import Facts, facts_from_json
from schema.diagnostic import Refused
from schema.spec import DEFAULT_STORE
from schema.validate import check
from tests.executor.live import Live, live, qemu_img
from tests.executor.recordings import HOSTS
from tests.executor.test_observe import RECORD

PATIENCE = 30.0


@pytest.fixture
def short() -> Iterator[Path]:
    """Return a folder whose name leaves room for a socket's in 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="d", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def host(short: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Live]:
    with live(short, getattr(request, "param", "xen-4.17")) as here:
        monkeypatch.setenv("DOMSNAP_PATH", here.path)
        yield here


def seen(host: Live, **more: object) -> Outputs:
    return observe(stores=[str(host.root / "store")], **{"patience": PATIENCE, **more})  # type: ignore[arg-type]


def comparable(facts: Facts) -> Facts:
    """Leave out what this machine gives anew each time: processes, inodes, sockets, when it was."""
    domains = []
    for domain in facts.domains:
        assert domain.qemu
        process = replace(domain.qemu.process, started=0, exe="")
        domains.append(replace(domain, xl_monitor=None, qemu=replace(domain.qemu, process=process, monitor="")))
    images = tuple(replace(image, inode="", allocated=0) for image in facts.images)
    version = replace(facts.host, qemu_img="", zstd="")
    return replace(facts, observed="", domains=tuple(domains), images=images, host=version)


def detail(call: Callable[[], object]) -> str:
    with pytest.raises(Refused) as refused:
        call()
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.hint
    return f"{diagnostic.summary}: {diagnostic.detail}"


def remarks(outputs: Outputs) -> list[str]:
    assert all(each.severity == "warning" for each in outputs.remarks)
    return [each.detail for each in outputs.remarks]


# --- the same facts


@pytest.mark.parametrize("host", HOSTS, indirect=True)
def test_a_live_host_gives_the_facts_of_its_recording(host: Live) -> None:
    looked = seen(host)
    assert remarks(looked) == []
    assert comparable(reading.facts(looked)) == comparable(reading.facts(host.said))
    assert check("facts", reading.facts_document(looked), "facts") == []


def test_inodes_processes_and_sockets_are_those_of_this_machine(host: Live) -> None:
    facts = reading.facts(seen(host))
    for image in facts.images:
        stat = subprocess.run(("stat", "-c", "%d:%i", "--", image.path), check=True, stdout=subprocess.PIPE, text=True)
        assert image.inode == stat.stdout.strip()
    for domain in facts.domains:
        assert domain.qemu
        where = Path("/proc", str(domain.qemu.process.pid))
        assert domain.qemu.process.started == int((where / "stat").read_text().split()[21])
        assert domain.qemu.process.exe == os.readlink(where / "exe")
        assert domain.qemu.monitor == str(host.root / f"qmp-libxenstat-{domain.domid}")


def test_only_questions_reach_a_monitor(host: Live) -> None:
    seen(host)
    asked = {name for monitor in host.monitors.values() for name in monitor.asked}
    assert {"query-block", "query-named-block-nodes", "query-version"} <= asked
    assert not {name for name in asked if not re.match("query-|x-debug-query-|qom-get$|qmp_capabilities$", name)}


def test_only_commands_that_tell_something_are_run(host: Live) -> None:
    seen(host)
    telling = (
        r"xl (info|list -[vl])|xenstore-ls -f|findmnt --json|df .*|[lv][vg]s --.*|lvm version|qemu-img (info|--v).*"
    )
    assert [call for call in host.calls() if not re.fullmatch(telling, call)] == []


def test_a_hundred_domains_take_as_many_programs_as_one(host: Live) -> None:
    host.prints("xenstore-ls -f", re.sub(".*device-model-pid.*\n", "", host.said.xenstore))
    seen(host)
    few = len(host.calls())
    many = replicated(host.said)
    host.prints("xl list -v", many.xl_list)
    host.prints("xl list -l", many.xl_list_long)
    host.prints("xenstore-ls -f", many.xenstore)
    (host.root / "calls").write_text("")
    assert len(reading.facts(seen(host)).domains) == 103
    assert len(host.calls()) == few


def replicated(said: Outputs) -> Outputs:
    """Return what a host would say whose domain 1, without its QEMU, is there another hundred times."""
    store = re.sub(".*device-model-pid.*\n", "", said.xenstore)
    lines = [line for line in store.splitlines(keepends=True) if re.search("/libxl/1/device/|/backend/[a-z]+/1/", line)]
    (row,) = [line for line in said.xl_list.splitlines(keepends=True) if line.startswith("web01 ")]
    configurations = json.loads(said.xl_list_long)
    (one,) = [each for each in configurations if each["domid"] == 1]
    copies = range(100, 200)
    return replace(
        said,
        xl_list=said.xl_list + "".join(row.replace("web01  ", f"web{n}").replace("   1 ", f" {n} ", 1) for n in copies),
        xl_list_long=json.dumps(
            [
                *configurations,
                *(
                    {"domid": n, "config": {**one["config"], "c_info": {**one["config"]["c_info"], "name": f"web{n}"}}}
                    for n in copies
                ),
            ]
        ),
        xenstore=store
        + "".join(
            re.sub("(/libxl/|/domain/|/backend/[a-z]+/)1/", rf"\g<1>{n}/", line) for n in copies for line in lines
        ),
    )


# --- images


def test_each_image_is_asked_about_once(host: Live) -> None:
    for name in ("b", "c", "d"):
        overlay(host, f"{name}.qcow2", "web01.qcow2")
    seen(host)
    asked = [call for call in host.calls() if call.startswith("qemu-img info")]
    assert len(asked) == len(set(asked)) == len(list(host.images.iterdir()))


def overlay(host: Live, name: str, backing: str) -> None:
    qemu_img("create", "-f", "qcow2", "-u", "-b", backing, "-F", "qcow2", str(host.images / name), "64M")


def test_a_chain_is_followed_into_other_folders_and_what_lies_there_is_found(host: Live) -> None:
    far = host.root / "far"
    far.mkdir()
    qemu_img("create", "-f", "qcow2", str(far / "golden.qcow2"), "64M")
    qemu_img("create", "-f", "qcow2", "-b", "golden.qcow2", "-F", "qcow2", str(far / "other.qcow2"))
    (host.images / "mail.qcow2").unlink()
    overlay(host, "mail.qcow2", str(far / "golden.qcow2"))
    facts = reading.facts(seen(host))
    assert [image.path for image in facts.chain(f"{host.images}/mail.qcow2")][1] == f"{far}/golden.qcow2"
    assert {image.path for image in facts.children(f"{far}/golden.qcow2")} == {
        f"{host.images}/mail.qcow2", f"{far}/other.qcow2",
    }  # fmt: skip


def test_a_clone_that_names_its_base_through_a_link_is_a_child_of_it(host: Live) -> None:
    (host.root / "link").symlink_to(host.images)
    overlay(host, "by-link.qcow2", f"{host.root}/link/mail.qcow2")
    facts = reading.facts(seen(host))
    assert [image.path for image in facts.children(f"{host.images}/mail.qcow2")] == [f"{host.images}/by-link.qcow2"]


def test_a_target_that_is_a_link_is_the_file_behind_it(host: Live) -> None:
    (host.images / "mail.qcow2").rename(host.root / "mail.qcow2")
    (host.images / "mail.qcow2").symlink_to(host.root / "mail.qcow2")
    mail = reading.facts(seen(host)).domain("mail")
    assert mail
    assert [(disk.target, disk.path) for disk in mail.disks] == [
        (f"{host.images}/mail.qcow2", f"{host.root}/mail.qcow2")
    ]


def test_a_raw_disk_is_raw_whatever_its_guest_wrote_at_its_beginning(host: Live) -> None:
    (host.images / "secret").write_text("x" * 5000)
    for disk in ("web01-data.raw", "win-d.raw"):
        overlay(host, disk, f"{host.images}/secret")
    facts = reading.facts(seen(host))
    for disk in ("web01-data.raw", "win-d.raw"):
        image = facts.image(f"{host.images}/{disk}")
        assert image and (image.format, image.backing) == ("raw", "")
    assert facts.image(f"{host.images}/secret") is None


def test_a_backing_file_that_is_no_file_of_the_host_is_not_opened(host: Live) -> None:
    os.mkfifo(host.images / "pipe")
    overlay(host, "a.qcow2", f"{host.images}/pipe")
    overlay(host, "b.qcow2", "nbd://192.0.2.1/x")
    overlay(host, "c.qcow2", f"{host.images}/gone")
    looked = seen(host)
    facts = reading.facts(looked)
    assert remarks(looked) == []
    assert facts.image(f"{host.images}/a.qcow2")
    assert [call for call in host.calls() if call.endswith(("pipe", "gone")) or "nbd:" in call] == []


def test_an_image_with_an_external_data_file_is_left_out_where_no_domain_names_it(host: Live) -> None:
    path = host.images / "outer.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={host.images}/inner", str(path), "1M")
    looked = seen(host)
    assert remarks(looked) == [f"{path}: it has an external data file"]
    assert str(path) not in looked.qemu_img_info


def test_a_broken_image_of_one_domain_is_a_remark_to_others_and_refused_for_itself(host: Live) -> None:
    (host.images / "mail.qcow2").write_text("no qcow2")
    (said,) = remarks(seen(host))
    assert said.startswith(f"{host.images}/mail.qcow2: `qemu-img info -U --output=json -f qcow2")
    assert "not in qcow2 format" in said
    seen(host, names=["web01"])
    with pytest.raises(Refused, match=r"an image of the domain cannot be described: .*mail[.]qcow2"):
        seen(host, names=["mail"])


def test_a_host_without_qemu_img_has_no_images(host: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("qemu-img", "lvs", "vgs", "lvm"):
        (host.root / "bin" / name).unlink()
    monkeypatch.setenv("DOMSNAP_PATH", f"{host.root}/bin:{sh_only(host.root)}")
    facts = reading.facts(seen(host))
    assert (facts.host.qemu_img, facts.host.lvm, facts.images, facts.volumes) == ("", "", (), ())


def sh_only(root: Path) -> Path:
    folder = root / "few"
    folder.mkdir()
    for name in ("cat", "tr", "mv"):
        (folder / name).symlink_to(f"/usr/bin/{name}")
    return folder


def test_another_name_of_a_logical_volume_s_device_is_that_volume() -> None:
    devices = [f"/dev/{name}" for name in os.listdir("/dev") if Path("/dev", name).is_block_device()]
    if not devices:
        pytest.skip("this machine has no block device")
    stored = Storage("", "", (), "", "", "", {os.stat(devices[0]).st_rdev: "/dev/vg0/db"}, ())
    assert list(stored.named([devices[0], "/dev/vg0/db", "/no/device"])) == [(devices[0], "/dev/vg0/db")]


# --- records


def put(host: Live, text: str, place: str = "old/s1/record.json") -> Path:
    path = host.root / "store" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_records_of_the_stores_and_what_they_hold_are_found(host: Live) -> None:
    (host.root / "holders").mkdir()
    qemu_img("create", "-f", "qcow2", str(host.root / "holders/frozen.qcow2"), "1M")
    held = {
        "vdev": "xvda", "method": "external", "backend": "qdisk", "format": "qcow2", "path": "/nowhere/x.qcow2",
        "capacity": 2**20, "holder": f"{host.root}/holders/frozen.qcow2",
    }  # fmt: skip
    put(host, json.dumps({**RECORD, "disks": [held]}))
    put(host, "s1\n", "old/current")
    put(host, "unfinished", "old/s2/memory.part")
    put(host, "a note", "README")
    facts = reading.facts(seen(host))
    assert [record.folder for record in facts.records] == [f"{host.root}/store/old/s1"]
    assert facts.current == {"old": "s1"}
    old = facts.domain("old")
    assert old and old.state == "off"
    assert facts.image(f"{host.root}/holders/frozen.qcow2")


def test_a_record_is_read_from_no_pipe_link_or_device(host: Live) -> None:
    put(host, json.dumps(RECORD))
    store = host.root / "store/old"
    for name in ("s2", "s3", "s4", "s5"):
        (store / name).mkdir()
    os.mkfifo(store / "s2/record.json")
    (store / "s3/record.json").symlink_to(store / "s1/record.json")
    (store / "s4/record.json").mkdir()
    (store / "s5/record.json").write_bytes(b" " * (2**20 + 1))
    (store / "s6").symlink_to(store / "s1")
    os.mkfifo(store / "current")
    with pytest.raises(Refused) as refused:
        seen(host)
    assert sorted(each.detail for each in refused.value.diagnostics) == [
        f"{store}/current: it is not a regular file",
        f"{store}/s2/record.json: it is not a regular file",
        f"{store}/s3/record.json: it is a symbolic link",
        f"{store}/s4/record.json: it is not a regular file",
        f"{store}/s5/record.json: it has more than 1 MiB",
        f"{store}/s6: it is a symbolic link",
    ]
    assert {each.summary for each in refused.value.diagnostics} == {"cannot read what the store holds"}


def test_a_record_that_is_not_valid_is_refused_by_name(host: Live) -> None:
    path = put(host, "{")
    with pytest.raises(Refused) as refused:
        seen(host)
    assert {each.position.file for each in refused.value.diagnostics if each.position} == {str(path)}


def test_of_two_stores_the_current_that_was_written_last_is_right(host: Live) -> None:
    for number, store in enumerate(("store", "b"), 1):
        path = host.root / store / "web01/current"
        path.parent.mkdir(parents=True)
        path.write_text(f"s{number}\n")
        os.utime(path, (number, number))
    outputs = observe(stores=[f"{host.root}/b", f"{host.root}/store"])
    assert outputs.current == {"web01": "s2\n"}


# --- domains that come and go, QEMUs that do not answer


def test_a_domain_that_comes_while_it_is_looked_is_seen_the_second_time(host: Live) -> None:
    without = json.dumps([each for each in json.loads(host.said.xl_list_long) if each["domid"] != 2])
    host.prints_once("xl list -l", without)
    looked = seen(host)
    assert remarks(looked) == []
    assert comparable(reading.facts(looked)) == comparable(reading.facts(host.said))


def test_a_domain_that_is_listed_by_one_alone_is_left_out_with_its_reason(host: Live) -> None:
    without = json.dumps([each for each in json.loads(host.said.xl_list_long) if each["domid"] != 2])
    host.prints("xl list -l", without)
    looked = seen(host)
    assert remarks(looked) == ["mail (2): `xl list -l` does not know it yet"]
    assert [domain.name for domain in reading.facts(looked).domains] == ["web01", "win"]
    assert "mail (2)" in detail(lambda: seen(host, names=["mail"]))


def test_a_domain_whose_backends_are_half_gone_is_left_out_with_its_reason(host: Live) -> None:
    gone = re.sub(r".*/(libxl|qdisk)/2/.*/params = .*\n|.*/qdisk/2/.*/params = .*\n", "", host.said.xenstore)
    host.prints("xenstore-ls -f", gone)
    looked = seen(host)
    assert [domain.name for domain in reading.facts(looked).domains] == ["web01", "win"]
    assert "mail (2): `xenstore-ls -f`" in remarks(looked)[0]


def test_a_device_model_that_has_ended_serves_nothing(host: Live) -> None:
    with subprocess.Popen(("true",)) as process:
        pid = process.pid
    store = re.sub(r'(/2/image/device-model-pid = ")[0-9]+', rf"\g<1>{pid}", host.said.xenstore)
    host.prints("xenstore-ls -f", store)
    looked = seen(host)
    assert remarks(looked) == [f"mail (2): its device model, process {pid}, has ended"]
    mail = reading.facts(looked).domain("mail")
    assert mail and mail.qemu
    assert (mail.qemu.status, mail.disks[0].nodes) == ("unreachable", ())
    assert check("facts", reading.facts_document(looked), "facts") == []


def test_a_monitor_that_does_not_answer_is_given_up(host: Live) -> None:
    host.monitors[2].close()
    path = host.root / "qmp-libxenstat-2"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(1)
        looked = seen(host, patience=0.5)
    silent = f"mail (2): {path}: no answer within 0.5 seconds; another program may be connected to it"
    assert silent in remarks(looked)
    assert 2 not in looked.qmp
    assert check("facts", reading.facts_document(looked), "facts") == []


@pytest.mark.parametrize("greeting", [b"", b"no JSON\r\n", b'{"QMP": 7}\r\n', b'{"QMP": {}}\r\n{"return": {}}\r\n'])
def test_a_monitor_that_talks_nonsense_is_a_remark(greeting: bytes, short: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{short}/m")
        server.listen(1)

        def once() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(greeting)
                connection.recv(1000)

        thread = threading.Thread(target=once)
        thread.start()
        answers, silent = ask_qemus({7: f"{short}/m"}, 0.5)
        thread.join()
    assert answers == {}
    assert silent[7].startswith(f"{short}/m: ")


def test_a_qemu_without_a_socket_is_a_remark(short: Path) -> None:
    assert ask_qemus({7: f"{short}/m"}, 5) == ({}, {7: f"{short}/m: [Errno 2] No such file or directory"})
    assert ask_qemus({}) == ({}, {})


def test_a_real_qemu_is_asked_for_the_chain_as_its_own_graph_has_it(short: Path) -> None:
    qemu_img("create", "-f", "qcow2", f"{short}/base.qcow2", "1M")
    qemu_img("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", f"{short}/top.qcow2")
    words = (
        "qemu-system-x86_64", "-accel", "tcg", "-M", "pc", "-m", "64", "-nodefaults", "-display", "none", "-S",
        "-qmp", f"unix:{short}/m,server=on,wait=off", "-device", "virtio-blk-pci,drive=xvda-qcow2",
        "-blockdev", f"driver=file,node-name=f,filename={short}/top.qcow2",
        "-blockdev", "driver=qcow2,node-name=xvda-qcow2,file=f",
    )  # fmt: skip
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: Path(f"{short}/m").exists())
            answers, silent = ask_qemus({7: f"{short}/m"}, PATIENCE)
        finally:
            process.kill()
    assert silent == {}
    (drive,) = qmp.drives(answers[7])
    assert (drive.vdev, drive.capacity) == ("xvda", 2**20)
    assert [file for _, file, _ in drive.nodes] == [f"{short}/top.qcow2", f"{short}/base.qcow2"]
    assert qmp.GRAPH in answers[7]
    assert qmp.version(answers[7])


def wait_for(there: Callable[[], bool]) -> None:
    for _ in range(500):
        if there():
            return
        time.sleep(0.02)
    raise AssertionError("it has not come within 10 seconds")


def test_every_xl_is_seen_with_its_standard_output_also_when_its_file_was_replaced(short: Path) -> None:
    with ExitStack() as stack:
        program = short / "xl"
        program.write_bytes(Path("/bin/sleep").read_bytes())
        program.chmod(0o755)
        out = stack.enter_context((short / "log").open("w"))
        process = stack.enter_context(subprocess.Popen((str(program), "60"), stdout=out))
        stack.callback(process.kill)
        wait_for(lambda: os.readlink(f"/proc/{process.pid}/exe") == str(program))
        program.unlink()
        (found,) = [each for each in processes(()) if each.pid == process.pid]
    assert (found.exe, found.stdout) == (f"{program} (deleted)", f"{short}/log")


# --- the funnel


@pytest.fixture
def programs(short: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    monkeypatch.setenv("DOMSNAP_PATH", f"{short}:/usr/bin:/bin")

    def write(script: str) -> None:
        (short / "say").write_text(f"#!/bin/sh\n{script}\n")
        (short / "say").chmod(0o755)

    return write


def test_a_program_that_fails_is_quoted_with_what_it_said_last(programs: Callable[[str], None]) -> None:
    programs("seq 1 10000 >&2; echo 'xc: permission denied' >&2; exit 3")
    said = detail(lambda: funnel.ask("say", "a b", "$(c)"))
    assert said.startswith("a program of the host failed: `say 'a b' '$(c)'`: exit status 3; it said ")
    assert said.endswith("10000 xc: permission denied")
    assert len(said) < 1000
    programs("kill -9 $$")
    assert "ended by signal 9; it said nothing" in detail(lambda: funnel.ask("say"))


def test_a_program_that_hangs_is_ended_with_all_that_it_started(programs: Callable[[str], None], short: Path) -> None:
    programs(f"sleep 1000 & echo $! $$ >{short}/pids; wait")
    assert "no answer within 0.5 seconds" in detail(lambda: funnel.ask("say", patience=0.5))
    for pid in (short / "pids").read_text().split():
        wait_for(lambda pid=pid: not alive(pid))  # type: ignore[misc]


def alive(pid: str) -> bool:
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_gets_no_input_no_terminal_and_speaks_english(programs: Callable[[str], None]) -> None:
    programs('cat; echo "$LC_ALL"; ps -o sid= -p $$ | tr -d " "; echo $$; echo "$PATH"')
    ours = os.dup(0)
    with tempfile.TemporaryFile() as file:
        file.write(b"what domsnap's own input holds")
        file.seek(0)
        os.dup2(file.fileno(), 0)
        try:
            said = funnel.ask("say")
        finally:
            os.dup2(ours, 0)
            os.close(ours)
    locale, session, pid, path = said.split()
    assert (locale, session) == ("C", pid)
    assert path == os.environ["DOMSNAP_PATH"]


def test_what_a_daemon_leaves_open_does_not_hold_the_answer_up(programs: Callable[[str], None], short: Path) -> None:
    programs(f"echo done; sleep 1000 & echo $! >{short}/pid")
    assert funnel.ask("say", patience=PATIENCE) == "done\n"
    os.kill(int((short / "pid").read_text()), 9)


def test_what_cannot_be_started_is_said(programs: Callable[[str], None], short: Path) -> None:
    programs("")
    (short / "say").write_text("#!/no/such/shell\n")
    with pytest.raises(Refused, match=r"a program cannot be started: .*/say: No such file or directory"):
        funnel.ask("say")
    with pytest.raises(Refused, match="there is no `nothing-like-it` in "):
        funnel.ask("nothing-like-it")


def test_a_part_is_taken_only_if_it_begins_as_the_whole(programs: Callable[[str], None]) -> None:
    programs("echo Filesystem; echo 'df: /x: Stale file handle' >&2; exit 1")
    assert funnel.ask_in_part("say", begins="Filesystem") == (
        "Filesystem\n", "`say`: exit status 1; it said df: /x: Stale file handle",
    )  # fmt: skip
    assert "Stale file handle" in detail(lambda: funnel.ask_in_part("say", begins="{"))


def test_a_mount_that_df_cannot_ask_is_a_remark(host: Live) -> None:
    host.does("df --block-size=1 --portability", f"cat {host.root}/texts/df*bility; echo 'df: /x: stale' >&2; exit 1\n")
    looked = seen(host)
    assert remarks(looked) == ["`df --block-size=1 --portability`: exit status 1; it said df: /x: stale"]
    assert comparable(reading.facts(looked)) == comparable(reading.facts(host.said))


def test_a_filesystem_that_is_mounted_between_findmnt_and_df_is_seen_the_second_time(host: Live) -> None:
    without = json.loads(host.said.findmnt)
    children = without["filesystems"][0]["children"]
    children[:] = [each for each in children if each["target"] != "/run"]
    host.prints_once("findmnt --json", json.dumps(without))
    looked = seen(host)
    assert comparable(reading.facts(looked)) == comparable(reading.facts(host.said))


def test_this_machine_s_own_filesystems_and_volumes_can_be_read() -> None:
    found = storage()
    assert list(filesystems(found.findmnt, found.df, found.reflink))
    assert len(list(lvm.volumes(found.lvs))) >= len(found.volumes)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
@pytest.mark.parametrize("name", ["two words", "m\u00fc", '"q\\x', "new\nline"])
def test_a_mount_point_of_any_name_is_read_or_passed_over(name: str, short: Path) -> None:
    mount = short / name
    mount.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=1M", "none", str(mount)), check=True)
    try:
        found = storage()
    finally:
        subprocess.run(("umount", str(mount)), check=True)
    kinds = {each.mount: each.type for each in filesystems(found.findmnt, found.df, found.reflink)}
    assert kinds.get(str(mount)) == (None if "\n" in name else "tmpfs")


# --- failures of the host's programs


def test_a_machine_without_xl_is_told_how_to_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOMSNAP_PATH", "/nowhere")
    with pytest.raises(Refused) as refused:
        observe()
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.summary == "no xl here"
    assert "--facts FILE" in diagnostic.hint
    assert "--offline" in diagnostic.hint


@pytest.mark.parametrize("call", ["xl info", "xl list -v", "xl list -l", "xenstore-ls -f"])
def test_a_program_that_fails_is_named(call: str, host: Live) -> None:
    host.does(call, "echo 'libxl: error: cannot open' >&2; exit 1\n")
    assert f"`{call}`: exit status 1; it said libxl: error: cannot open" in detail(lambda: seen(host))


@pytest.mark.parametrize("call", ["xl info", "xl list -v", "xl list -l", "xenstore-ls -f", "findmnt --json"])
def test_an_answer_that_cannot_be_read_is_named_and_quoted(call: str, host: Live) -> None:
    host.prints(call, "\x1b[31mgarbage")
    said = detail(lambda: reading.facts(seen(host)))
    assert f"`{call}`" in said
    assert "garbage" in said


# --- filesystems that share blocks


@contextmanager
def mounted(folder: Path, make: str) -> Iterator[str]:
    image, mount = folder / "disk", folder / "mount"
    with image.open("wb") as file:
        file.truncate(340 * 2**20)
    subprocess.run((*make.split(), str(image)), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    mount.mkdir()
    subprocess.run(("mount", "-o", "loop", str(image), str(mount)), check=True)
    try:
        yield str(mount)
    finally:
        subprocess.run(("umount", str(mount)), check=True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
@pytest.mark.parametrize(
    "make", ["mkfs.xfs -q -m reflink=1", "mkfs.xfs -q -m reflink=0", "mkfs.btrfs -q", "mkfs.ext4 -q"]
)
def test_a_filesystem_is_said_to_share_blocks_exactly_if_cp_can(make: str, short: Path) -> None:
    with mounted(short, make) as mount:
        told = shares_blocks(mount, make.split(maxsplit=1)[0].removeprefix("mkfs."))
        assert os.listdir(mount) in ([], ["lost+found"]), "nothing was written to find out"
        Path(mount, "a").write_bytes(b"x" * 65536)
        done = subprocess.run(("cp", "--reflink=always", f"{mount}/a", f"{mount}/b"), check=False, capture_output=True)
    assert told == (done.returncode == 0)


def test_a_filesystem_that_is_not_what_it_was_called_shares_nothing(short: Path) -> None:
    assert not shares_blocks(str(short / "gone"), "xfs")
    assert not shares_blocks("/proc", "xfs")
    assert not shares_blocks("/", "zfs")


# --- the command, and plans without --facts


def test_the_document_is_valid_and_holds_what_was_seen(host: Live) -> None:
    text, said = observing.document(["web01"], [str(host.root / "store")])
    document = json.loads(text)
    assert said == []
    assert check("facts", document, "facts") == []
    assert comparable(facts_from_json(document)) == comparable(reading.facts(seen(host)))


def test_observe_writes_facts_for_their_owner_alone_and_never_over_another_file(
    host: Live, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    file = tmp_path / "facts.json"
    for _ in range(2):
        assert run(["observe", "web01", "-o", str(file)]) == 0
    assert capsysbinary.readouterr().out == b""
    assert file.stat().st_mode & 0o777 == 0o600
    assert run(["observe"]) == 0
    printed, kept = json.loads(capsysbinary.readouterr().out), json.loads(file.read_text())
    assert comparable(facts_from_json(printed)) == comparable(facts_from_json(kept))
    file.write_text('{"version": 1, "domain": "mine"}')
    assert run(["observe", "-o", str(file)]) == 1
    assert b"it is not facts made by domsnap" in capsysbinary.readouterr().err
    assert file.read_text() == '{"version": 1, "domain": "mine"}'


def test_observe_gives_what_the_programs_printed_for_a_bug_report(
    host: Live, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    file = tmp_path / "outputs.json"
    assert run(["observe", "--outputs"]) == 0
    said = json.loads(capsysbinary.readouterr().out)
    assert said["xl_info"] == seen(host).xl_info and said["xl_list_long"] == seen(host).xl_list_long
    for _ in range(2):
        assert run(["observe", "--outputs", "-o", str(file)]) == 0
    assert run(["observe", "-o", str(file)]) == 1
    assert b"it is not facts made by domsnap" in capsysbinary.readouterr().err
    assert json.loads(file.read_text()).keys() == said.keys()


def test_a_domain_that_is_not_there_is_refused_naming_those_that_are(host: Live) -> None:
    with pytest.raises(Refused) as refused:
        observing.document(["web01", "web1", "x"], [])
    assert [(each.detail, each.hint) for each in refused.value.diagnostics] == [
        ("'web1' does not run and has no record; here are web01, mail, win", "did you mean 'web01'?"),
        ("'x' does not run and has no record; here are web01, mail, win", ""),
    ]


# Of a newer Xen no plan holds an xl, which might be one of another test's here.
@pytest.mark.parametrize("host", ["xen-4.20"], indirect=True)
def test_a_plan_without_facts_is_that_of_the_facts_observed_just_before(
    host: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "s.yaml"
    spec.write_text(f"version: 1\ndomain: web01\nsnapshot: one\nstore: {host.root}/store\n")
    text, _ = observing.document([], [f"{host.root}/store"])
    (now,) = plans(Request(str(spec)))
    (tmp_path / "facts.json").write_text(json.dumps({**json.loads(text), "observed": now.observed}))
    assert plans(Request(str(spec), facts=str(tmp_path / "facts.json"))) == [now]
    assert not now.offline
    assert capsys.readouterr().err == ""


def test_what_could_not_be_seen_is_said_beside_the_plan(
    host: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(f"version: 1\ndomain: web01\nsnapshot: one\nstore: {host.root}/store\n")
    (host.images / "mail.qcow2").write_text("no qcow2")
    assert DEFAULT_STORE.startswith("/")
    plans(Request(str(tmp_path / "s.yaml")))
    assert capsys.readouterr().err.startswith(
        f"an image was left out of the facts\n  {host.images}/mail.qcow2: `qemu-img info"
    )
