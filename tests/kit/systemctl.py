"""`systemctl` on a host of host.py: starts and stops the services that the pages of docs/ speak of.

    python -m tests.kit.systemctl start haproxy

A service is a process whose output is its log. It has started when it listens on an address that nobody listened on
before; it has stopped when it has ended.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.kit.peers import until

SERVICES = {
    "haproxy": ["haproxy", "-W", "-db", "-f", "/etc/haproxy/haproxy.cfg"],
    "mcproxy": ["mcproxy", "server"],
    "nginx": ["nginx", "-g", "daemon off;"],
    "sniproxy": ["sniproxy", "-f"],
}
STOP = {"nginx": signal.SIGQUIT}  # as Debian's unit does; the others get SIGTERM
RELOAD = {"mcproxy": (signal.SIGHUP, "reload"), "haproxy": (signal.SIGUSR2, "Loading success")}
LISTENING = "0A"  # the state in /proc/net/tcp


def listening() -> set[str]:
    """The addresses that are listened on, as the kernel writes them."""
    paths = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
    rows = [line.split() for path in paths for line in path.read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == LISTENING}


def begin(name: str) -> None:
    """Start a service, and wait until it serves."""
    before = listening()
    with log(name).open("ab") as output:
        process = subprocess.Popen(
            SERVICES[name], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    pid(name).write_text(str(process.pid))
    until(lambda: listening() - before or process.poll() is not None, f"{name} to listen")
    if process.poll() is not None:
        pid(name).unlink()
        sys.exit(f"Job for {name}.service failed: {log(name).read_text()}")
    if name == "mcproxy":
        until(
            lambda: not subprocess.run(["mcproxy", "status"], capture_output=True, check=False).returncode, "an answer"
        )


def end(name: str) -> None:
    """Stop a service, and wait until it has ended."""
    if not pid(name).exists():
        return
    number = int(pid(name).read_text())
    os.kill(number, STOP.get(name, signal.SIGTERM))
    until(lambda: not Path(f"/proc/{number}").exists() or zombie(number), f"{name} to end")
    pid(name).unlink()


def reload(name: str) -> None:
    """Have a service read its files again, and wait until it says that it has."""
    number, said = RELOAD[name]
    before = log(name).read_text().count(said)
    os.kill(int(pid(name).read_text()), number)
    until(lambda: log(name).read_text().count(said) > before, f"{name} to reload")


def zombie(number: int) -> bool:
    """Whether a process has ended and nobody has asked how: the host's first process is no init."""
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def pid(name: str) -> Path:
    """Where a service's number is."""
    return Path(f"/run/services/{name}")


def log(name: str) -> Path:
    """Where a service's output is."""
    return Path(f"/var/log/{name}.log")


def main() -> None:
    """Do what the command says."""
    match sys.argv[1:]:
        case ["start", name] | ["enable", "--now", name]:
            begin(name)
        case ["stop", name] | ["disable", "--now", name]:
            end(name)
        case ["restart", name]:
            end(name)
            begin(name)
        case ["reload", name]:
            reload(name)
        case command:
            sys.exit(f"systemctl: {command}?")


if __name__ == "__main__":
    main()
