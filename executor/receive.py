"""Keeps what `xl migrate -s ''` sends of a running domain as its memory image, and holds the guest still at the end.

Started by xl as `receive.py IMAGE FOLDER [SECONDS BYTES]`: the stream on standard input, the answering pipe on standard
output. All that it ever answers is that it is ready. It never says that the domain has arrived: xl would then destroy
the domain here. So xl lets the guest go on as soon as nobody holds the answering pipe any more.

FOLDER holds two FIFOs, made and opened by who started xl: to `said` it writes `ready PID`, `copied BYTES PAGES SECONDS`
now and then, and `end BYTES PAGES SECONDS` when all has come and the guest stands still, or `failed WHY`; anything that
comes through `hold`, or its end, ends this process. `answer` there is a name for the answering pipe. SECONDS and BYTES
are when to give up; 0 is never. Standard library alone: generated scripts carry this file along.

Formats: Xen's docs/specs/libxl-migration-stream.pandoc, libxc-migration-stream.pandoc, tools/xl/xl.h, xl_migrate.c.
"""

import fcntl
import os
import select
import struct
import sys
import time
from collections.abc import Generator

READY = b"xl migration receiver ready, send binary domain data.\n"
XL_MAGIC = b"Xen saved domain, xl format\n \0 \r"
LIBXL_MAGIC = 0x4C6962786C466D74
LIBXC_MARKER, LIBXC_MAGIC = 0xFFFFFFFFFFFFFFFF, 0x58454E46
END, LIBXC_CONTEXT, PAGE_DATA = 0, 1, 1
PAGE = 4096
# As in every walk over an image: a number far off is no type, unless it is of the optional ones. These two libxl types
# belong to checkpoints, of which none was asked for.
FAR, OPTIONAL, CHECKPOINTS = 0x100, 0x80000000, (4, 5)
LARGEST = 2**30  # bytes of a record; the largest is QEMU's state, of some tens of megabytes
BUFFER, PIPE, SET_PIPE_SIZE = 2**20, 2**20, 1031  # bytes, bytes, F_SETPIPE_SZ
OFTEN = 0.25  # seconds


class Odd(Exception):
    """The stream cannot be kept; the text says why."""


class Stream:
    """Follows a stream as it comes by; `pages` counts those with data, `ended` says that its END has come.

    It holds a few bytes of it at a time: page data and whatever else a record holds is counted, not looked at.
    """

    def __init__(self) -> None:
        self.pages, self.ended = 0, False
        self._kept = bytearray()
        self._steps = self._follow()
        self._wanted = next(self._steps)

    def feed(self, data: memoryview) -> None:
        """Take in what came next; raises Odd for what is no such stream."""
        at = 0
        while at < len(data):
            if self.ended:
                raise Odd(f"{len(data) - at} bytes follow its END")
            if self._wanted < 0:
                passed = min(-self._wanted, len(data) - at)
                at, self._wanted = at + passed, self._wanted + passed
            else:
                part = data[at : at + self._wanted - len(self._kept)]
                self._kept += part
                at += len(part)
            if self._wanted in (0, len(self._kept)):
                said, self._kept = bytes(self._kept), bytearray()
                try:
                    self._wanted = self._steps.send(said)
                except StopIteration:
                    self.ended = True

    def _follow(self) -> Generator[int, bytes, None]:
        """Yield how many bytes are to be given next, or minus how many are to be passed over."""
        if (yield len(XL_MAGIC)) != XL_MAGIC:
            raise Odd("it does not begin like a memory image of xl")
        order, mandatory, _, length = struct.unpack("=IIII", (yield 16))
        if order != 0x01020304:
            raise Odd("it has another byte order")
        if mandatory & ~3 or not mandatory & 2:
            raise Odd(f"it needs features {mandatory:#x} that are not known")
        yield from self._pass_over(length)
        magic, version, options = struct.unpack(">QII", (yield 16))
        if (magic, version, options) != (LIBXL_MAGIC, 2, 0):
            raise Odd("it is not version 2 of libxl's")
        context = False
        while True:
            kind, length = struct.unpack("<II", (yield 8))
            self._known(kind, length)
            if kind in CHECKPOINTS or (kind == LIBXC_CONTEXT and context):
                raise Odd(f"a record of type {kind} is out of place")
            if kind == END and not context:
                raise Odd("it holds no memory")
            yield from self._body(length)
            if kind == LIBXC_CONTEXT:
                context = True
                yield from self._memory()
            if kind == END:
                return

    def _memory(self) -> Generator[int, bytes, None]:
        marker, magic, version, options, _, _ = struct.unpack(">QIIHHI", (yield 24))
        if (marker, magic) != (LIBXC_MARKER, LIBXC_MAGIC) or version not in (2, 3) or options & 1:
            raise Odd("its memory is not in libxc's format")
        yield from self._pass_over(16)
        while True:
            kind, length = struct.unpack("<II", (yield 8))
            self._known(kind, length)
            if kind == PAGE_DATA:
                if length < 8:
                    raise Odd("a record of pages has no number of them")
                (count,) = struct.unpack("<I4x", (yield 8))
                data, odd = divmod(length - 8 - 8 * count, PAGE)
                if odd or not 0 <= data <= count:
                    raise Odd(f"a record of {count} pages has {length} bytes")
                self.pages += data
                length -= 8
            yield from self._body(length)
            if kind == END:
                return

    @staticmethod
    def _known(kind: int, length: int) -> None:
        if FAR <= kind < OPTIONAL:
            raise Odd(f"a record has the impossible type {kind}")
        if length > LARGEST or (kind == END and length):
            raise Odd(f"a record of type {kind} has the impossible length {length}")

    def _body(self, length: int) -> Generator[int, bytes, None]:
        """Pass over the rest of a record, which is padded to 8 bytes."""
        yield from self._pass_over(-(-length // 8) * 8)

    @staticmethod
    def _pass_over(length: int) -> Generator[int, bytes, None]:
        if length:
            yield -length


class Receiver:
    """Keeps a stream in `image`, which must be new. after: seconds, size: bytes at which it gives up; 0 is never."""

    def __init__(self, image: str, folder: str, after: float = 0, size: int = 0) -> None:
        self.image, self.after, self.size = image, after, size
        self.file = os.open(image, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.said = os.open(f"{folder}/said", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.hold = os.open(f"{folder}/hold", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.symlink(f"/proc/{os.getpid()}/fd/1", f"{folder}/answer")
        self.stream, self.bytes, self.began = Stream(), 0, time.monotonic()

    def say(self, what: str, *, surely: bool = True) -> None:
        """Write a line to `said`; not `surely`: not if nobody has read the lines before it yet."""
        if surely:
            select.select([], [self.said], [])
        try:
            os.write(self.said, f"{what}\n".encode("utf-8", "replace"))
        except BlockingIOError:
            pass

    def go(self) -> None:
        """Keep all of the stream, then hold the guest until told to end. Raises Odd, and OSError."""
        self.say(f"ready {os.getpid()}")
        os.write(1, READY)
        try:
            fcntl.fcntl(0, SET_PIPE_SIZE, PIPE)
        except OSError:
            pass  # it is slower then
        self._keep()
        self.say(f"end {self._so_far()}")
        select.select([self.hold], [], [])

    def _keep(self) -> None:
        buffer, next_word = memoryview(bytearray(BUFFER)), 0.0
        while not self.stream.ended:
            ready = select.select([0, self.hold], [], [], OFTEN)[0]
            if self.hold in ready:
                raise Odd("told to end before all had come")
            if 0 in ready:
                count = os.readv(0, [buffer])
                if not count:
                    raise Odd(f"xl hung up after {self.bytes} bytes")
                self._write(buffer[:count])
                self.stream.feed(buffer[:count])
            now = time.monotonic()
            self._still_worth_it(now - self.began)
            if now >= next_word:
                next_word = now + OFTEN
                self.say(f"copied {self._so_far()}", surely=False)

    def _write(self, data: memoryview) -> None:
        while data:
            count = os.write(self.file, data)
            self.bytes += count
            data = data[count:]

    def _still_worth_it(self, seconds: float) -> None:
        """Raise Odd when the copy does not come to an end; the guest runs on as if nothing had been."""
        if self.stream.ended:
            return
        if self.after and seconds >= self.after:
            raise Odd(f"given up: not done after {self.after:g} seconds, as `memory.give_up.after` says")
        if self.size and self.bytes >= self.size:
            raise Odd(f"given up: not done after {self.bytes} bytes, as `memory.give_up.size` says")

    def _so_far(self) -> str:
        return f"{self.bytes} {self.stream.pages} {time.monotonic() - self.began:.3f}"


def main(image: str, folder: str, after: str = "0", size: str = "0") -> None:
    """Do as xl's receiver until told to end; never returns, so that nothing is flushed or closed in some order."""
    status, receiver = 1, None
    try:
        receiver = Receiver(image, folder, float(after), int(size))
        receiver.go()
        status = 0
    except (Odd, OSError) as error:
        why = f"{image}: {error.strerror}" if isinstance(error, OSError) else str(error)
        try:
            os.write(2, f"receiver: {why}\n".encode("utf-8", "replace"))
            if receiver:
                receiver.say(f"failed {why}")
        except OSError:
            pass  # nobody is there any more to hear it
    finally:
        os._exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
