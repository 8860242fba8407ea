"""What the companion of a live script can be asked besides: to capture the memory, and to let the guest go on.

The script puts the receiver into its working folder beforehand. Standard library alone: live scripts carry this file
along, after the companion.
"""

import subprocess
import sys
import time
from typing import Any

from executor.companion import PATIENCE, main, whole
from executor.migrate import Migration, let_run, shown

SELDOM = 10.0  # seconds between two words about how far it is


class LiveCapture:
    """At most one capture, by the receiver in `folder`. memory: bytes that the guest has."""

    def __init__(self, folder: str, memory: int) -> None:
        self.folder, self.memory = folder, memory
        self.migration: Any = None

    def capture(self, command: Any, given: Any) -> None:
        """Come back when the memory is written and the guest stands still; raises NotCaptured."""
        began = time.monotonic()

        def tell(word: str, numbers: list[float]) -> None:
            nonlocal began
            if word == "end" or (word == "copied" and time.monotonic() >= began + SELDOM):
                began = time.monotonic()
                given.say(f"| {shown(word, numbers, self.memory)}")

        receiver = [sys.executable, "-I", f"{self.folder}/receive.py"]
        self.migration = Migration(command, f"{self.folder}/live", receiver, tell=tell)
        self.migration.follow(given)

    def release(self, command: Any, given: Any) -> None:
        """Let the guest go on, and see to it that xl has; raises NotCaptured. Nobody can call this off."""
        if self.migration is None:
            return
        fine = self.migration.release(2 * PATIENCE)
        self.migration.close()
        self.migration = None
        if not fine:
            let_run(command["domid"], run)


def run(argv: tuple[str, ...]) -> tuple[int, str]:
    """Run a program and return its exit status and all that it said."""
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        check=False, start_new_session=True,
    )  # fmt: skip
    return done.returncode, done.stdout


if __name__ == "__main__":
    if sys.argv[1] == "--whole":
        whole(sys.argv[2])
    else:
        live = LiveCapture(sys.argv[2], int(sys.argv[3]))
        main(sys.argv[1], {"capture": live.capture, "release": live.release})
