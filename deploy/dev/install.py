"""Make the virtual environment of this source tree: `make` runs it with the machine's own Python, before anything else.

It takes a minute or two, and shows how far it is. Ctrl-C ends it clean at any moment; the next run begins again.
"""

from __future__ import annotations  # an older Python must get as far as the message that it is too old

import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST = (3, 11)
KEPT_LINES = 40  # of pip's output, shown when it fails
STEP = 10  # packages between two lines where there is no terminal to draw on

COLLECTING = re.compile(r"Collecting ([A-Za-z0-9._-]+)")
INSTALLING = re.compile(r"Installing collected packages: (.*)")


class Progress:
    """Counts packages: in one line on a terminal, in a line for every ten elsewhere."""

    def __init__(self) -> None:
        self._drawn = sys.stdout.isatty()
        self._count = 0

    def collected(self, package: str) -> None:
        """One more package is looked for or fetched."""
        self._count += 1
        if self._drawn:
            print(f"\r\033[K  collected {self._count} packages: {package}", end="", flush=True)
        elif self._count % STEP == 0:
            print(f"  collected {self._count} packages", flush=True)

    def say(self, text: str) -> None:
        """Print a line of its own."""
        print(f"\r\033[K  {text}" if self._drawn else f"  {text}", flush=True)


def run(command: list[str | Path], progress: Progress) -> None:
    """Run a command, out of the reach of the terminal's Ctrl-C. Ends the program where it fails."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    last: deque[str] = deque(maxlen=KEPT_LINES)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            last.append(line)
            if found := COLLECTING.match(line):
                progress.collected(found[1])
            elif found := INSTALLING.match(line):
                progress.say(f"installing {found[1].count(',') + 1} packages")
        status = process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    if status != 0:
        progress.say("failed:")
        sys.stderr.writelines(last)
        sys.exit(status)


def install(folder: Path) -> None:
    """Make the environment and install everything into it."""
    if sys.version_info < OLDEST:
        sys.exit(
            "mcproxy needs Python {}.{} or later, and {} is {}.{}; name another one: make PYTHON=python3.13 ...".format(
                *OLDEST, sys.executable, *sys.version_info
            )
        )
    started, progress = time.monotonic(), Progress()
    # Debian's python3 comes without ensurepip; python3-venv brings it.
    if subprocess.run([sys.executable, "-c", "import ensurepip"], stderr=subprocess.DEVNULL, check=False).returncode:
        subprocess.run([ROOT / "deploy" / "dev" / "apt-install.sh", "python3-venv"], check=True)
    print(f"making {folder} with Python {sys.version.split()[0]}", flush=True)
    run([sys.executable, "-m", "venv", folder], progress)
    print("installing mcproxy and what its tests and checks need", flush=True)
    pip = ["-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    run([folder / "bin" / "python", *pip, "--editable", ".[test,lint,build]"], progress)
    (folder / ".installed").touch()
    progress.say(f"done in {time.monotonic() - started:.0f} s")


def main() -> None:
    """Install into the folder that is named."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the Makefile has blocked it
        install(Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the next run begins again")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # what it ran has said why


if __name__ == "__main__":
    main()
