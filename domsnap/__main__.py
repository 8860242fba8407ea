"""Start domsnap from `python -m domsnap` and from the installed command."""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit; nothing but an exit status and clean messages leaves here."""
    from domsnap.cli import run

    raise SystemExit(run())


if __name__ == "__main__":
    main()
