"""The ``toolkit`` command starts here, and so does ``python -m toolkit``."""

try:  # Ctrl-C may come as early as this
    import os
    import signal
    import sys
except KeyboardInterrupt:
    raise SystemExit(130) from None

__all__ = ["main"]


def main() -> None:
    """Run the command line; Ctrl-C ends it cleanly even while it is still importing."""
    _open_closed_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else who started us wants none
        signal.signal(signal.SIGINT, _Interrupted())
    try:
        from toolkit.cli.app import main as run

        run()
    except KeyboardInterrupt:
        # Python gives signals back to the system when it ends, and another Ctrl-C would then kill it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("error: interrupted; nothing half-written was left behind", file=sys.stderr)  # noqa: T201
        sys.exit(130)


class _Interrupted:
    """Ctrl-C: the first ends the command, the second lets it clean up undisturbed, the third does not wait for that."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, _number: int, _frame: object) -> None:
        self.times += 1
        if self.times == 1:
            raise KeyboardInterrupt
        if self.times > 2:
            os._exit(130)


def _open_closed_streams() -> None:
    """A stream that was closed by whoever started us goes nowhere, instead of into the next file that is opened."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115 - lives as long as we do


if __name__ == "__main__":
    main()
