"""`python -m mcproxy` is the same program as `mcproxy`, which begins here too."""

import atexit
import gc

SELDOM = (50_000, 20, 50)  # thresholds of the garbage collector: most commands end before the second time


def main() -> None:
    """Run the program.

    A quarter of a command's time was the collector's: it looked for cycles among what every import makes, again and
    again, and among all of it once more as Python ends.
    """
    gc.set_threshold(*SELDOM)
    atexit.register(gc.freeze)
    from mcproxy.cli.main import main as program  # noqa: PLC0415 - the imports are what takes so long

    program(prog_name="mcproxy")


if __name__ == "__main__":
    main()
