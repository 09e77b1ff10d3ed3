"""Where `dtask` starts: it imports nothing before Ctrl-C is heeded."""

import sys


def main() -> None:
    """Run `dtask`; Ctrl-C while its libraries are imported is as quiet as later."""
    try:
        from dtask.cli import main as program  # noqa: PLC0415 (that is what takes its time)
    except KeyboardInterrupt:
        sys.exit(130)
    program.main()
