"""Start domsnap from `python -m domsnap` and from the installed command."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command line and exit; nothing but an exit status and clean messages leaves here."""
    # A run is short and makes few cycles: looking for them at the usual pace takes a tenth of it.
    gc.set_threshold(100_000)
    try:
        from domsnap.door import run

        status = run()
    except KeyboardInterrupt:  # so early that nothing had begun
        status = 130
    # All is written by now. Taking the interpreter down piece by piece would take another tenth.
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            try:
                stream.flush()
            except OSError:
                pass  # the door has said so
    os._exit(status)


if __name__ == "__main__":
    main()
