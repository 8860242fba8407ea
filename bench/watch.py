"""Run in dom0 as `watch.py DOMID OFTEN COMMAND...`: runs a command, and prints when Xen says that the guest stands
still.

One JSON array a line: seconds of CLOCK_BOOTTIME, then `still`, `runs`, `gone`, or `line` and a line of the command; at
the end `exit` and its status. Xen is asked every OFTEN seconds, through its own library; 0 is never: on an
emulated host asking takes time of its own. Standard library and Xen's alone.
"""

import glob
import json
import os
import select
import subprocess
import sys
import time

sys.path += glob.glob("/usr/lib/xen-*/lib/python")
RUNS = {"shutdown": 0, "paused": 0}


def main(domid: int, often: float, argv: list[str]) -> None:
    """Print what happens until the command has ended."""
    from xen.lowlevel import xc  # type: ignore[import-not-found]

    xen, before = xc.xc(), "runs"

    def say(*what: object) -> None:
        print(json.dumps([time.clock_gettime(time.CLOCK_BOOTTIME), *what]), flush=True)

    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout
        pipe, rest = process.stdout.fileno(), b""
        while True:
            seen = [each for each in xen.domain_getinfo(domid, 1) if each["domid"] == domid] if often else [RUNS]
            state = "gone" if not seen else "still" if seen[0]["shutdown"] or seen[0]["paused"] else "runs"
            if state != before:
                say(state)
                before = state
            if not select.select([pipe], [], [], often or None)[0]:
                continue
            data = os.read(pipe, 1 << 16)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                say("line", line.decode(errors="replace"))
    say("exit", process.returncode)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
