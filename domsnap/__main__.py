"""Start domsnap from `python -m domsnap` and from the installed command."""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit; nothing but an exit status and clean messages leaves here."""
    try:
        from domsnap.door import run

        status = run()
    except KeyboardInterrupt:  # so early that nothing had begun
        status = 130
    raise SystemExit(status)


if __name__ == "__main__":
    main()
