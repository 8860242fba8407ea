"""A receiver at work, as xl would have it, and who started xl: pipes at both ends, the two FIFOs of its folder."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

RECEIVER = Path(__file__).parents[2] / "executor" / "receive.py"
READY = b"xl migration receiver ready, send binary domain data.\n"


class Receiving:
    """The receiver of one image; `answered` is all that has come out of its standard output."""

    def __init__(self, root: Path, *more: str, limit: str = "") -> None:
        self.image, self.folder = root / "memory.part", root / "live"
        self.folder.mkdir()
        for name in ("said", "hold"):
            os.mkfifo(self.folder / name)
        self.said = os.open(self.folder / "said", os.O_RDONLY | os.O_NONBLOCK)
        self.hold = os.open(self.folder / "hold", os.O_RDWR)
        words = [sys.executable, "-I", str(RECEIVER), str(self.image), str(self.folder), *more]
        self.process = subprocess.Popen(
            ["sh", "-c", f'{limit}exec "$@"', "sh", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, cwd="/",
        )  # fmt: skip
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.answered, self.lines, self._begun = b"", [""], b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe
            with suppress(BrokenPipeError):
                pipe.close()
        for each in (self.said, self.hold):
            if each >= 0:
                os.close(each)

    def send(self, data: bytes) -> bool:
        """Send, as far as anybody takes it; return whether all went."""
        assert self.process.stdin
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def until(self, word: str) -> str:
        """Return the first line that begins with this word; progress that comes before it is kept in `lines`."""
        while not self.lines[-1].startswith(word):
            assert select.select([self.said], [], [], 30)[0], (word, self.lines)
            self._begun += (came := os.read(self.said, 4096))
            assert came, (word, self.lines)
            *whole, self._begun = self._begun.split(b"\n")
            for line in whole:
                self.lines.append(line.decode())
                if line.startswith(word.encode()):
                    break
        return self.lines[-1]

    def tell(self) -> None:
        os.write(self.hold, b".")

    def leave(self) -> None:
        """Let go of the channel without a word, as one who was killed."""
        os.close(self.hold)
        self.hold = -1

    def end(self) -> int:
        """Wait for its end, take in all that it has answered, and return its exit status."""
        assert self.process.stdin and self.process.stdout
        status = self.process.wait(30)
        self.answered += self.process.stdout.read()
        return status
