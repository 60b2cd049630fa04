"""``lbam-fast`` and ``python -m lbam_fast``: the command line."""

from lbam_fast import signals, waiting


def main() -> None:
    """Run the command line; its exit code is 130 after Ctrl-C and 143 after SIGTERM."""
    signals.end_commands()
    waiting.share_cores()
    from lbam_fast.cli import app

    try:
        app(prog_name="lbam-fast")
    finally:
        signals.end_at_once()


if __name__ == "__main__":
    main()
