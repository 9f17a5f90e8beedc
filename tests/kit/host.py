"""Hosts for the pages of docs/: namespaces in which commands run as they are typed, with real ports and real paths.

    python -m tests.kit.host FOLDER NAME        inside its namespaces: sets the host up, then runs what it is sent

/etc is changed in memory, /srv, /run and /var/log are empty; mcproxy is installed, certbot has been there, and what is
PID 1's business has stand-ins (services.py). Backends listen on 127.0.0.1: with TLS on ports 3000 to 3002, with HTTP/2
in the clear on 8080. A host is sent commands over a socket in the folder, with the descriptors that they are to use;
`ssh` on one host does that with another.
"""

import fcntl
import os
import shlex
import socket
import ssl
import struct
import subprocess
import sys
import threading
from pathlib import Path

from tests.kit.peers import DEADLINE, Backend, says, tls, until
from tests.kit.program import ROOT
from tests.kit.screen import Terminal

NAMESPACES = ["unshare", "--mount", "--net", "--pid", "--mount-proc", "--fork", "--kill-child"]
NAMES = ("git", "www", "mail")  # .example.org, each at the backend of its number
FIRST_PORT = 3000
MAX_COMMAND = 64 << 10  # bytes of one command
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914  # netdevice(7)

MOUNTS = """
mount -t tmpfs tmpfs {scratch}
mkdir {scratch}/upper {scratch}/work
mount -t overlay overlay -o lowerdir=/etc,upperdir={scratch}/upper,workdir={scratch}/work /etc
for each in /srv /run /var/log; do mount -t tmpfs -o mode=755 tmpfs $each; done
mkdir -p /srv/mcproxy/data /run/services /var/log/nginx
cp {root}/deploy/mcproxy.toml /srv/mcproxy/
echo mcproxy:x:64999:64999:::/usr/sbin/nologin >>/etc/passwd
echo mcproxy:x:64999: >>/etc/group
mkdir -p /etc/letsencrypt/live/www.example.org
cp {folder}/www.example.org.pem /etc/letsencrypt/live/www.example.org/fullchain.pem
cp {folder}/www.example.org.key /etc/letsencrypt/live/www.example.org/privkey.pem
"""
PROGRAMS = {
    "mcproxy": 'exec {python} -m mcproxy "$@"',
    "systemctl": 'exec {python} -m tests.kit.systemctl "$@"',
    "journalctl": 'exec tail "$3" "$4" /var/log/$2.log',
    "sudo": 'shift 2\nexec "$@"',
    "ssh": 'exec {python} -m tests.kit.host {folder} --ssh "$@"',
}


def available() -> bool:
    """Whether this machine lets us make hosts."""
    return os.geteuid() == 0 and not subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """The certificate and the key that hosts with this folder have for a name."""
    return folder / f"{name}.pem", folder / f"{name}.key"


class Host:
    """A host; `run` is somebody at its shell."""

    def __init__(self, folder: Path, name: str) -> None:
        self._socket = folder / f"{name}.sock"
        command = [*NAMESPACES, sys.executable, "-m", "tests.kit.host", str(folder), name]
        self._process = subprocess.Popen(command, cwd=ROOT)
        until(lambda: self._socket.exists() or self._process.poll() is not None, f"the host {name}")
        assert self._process.poll() is None, f"the host {name} could not be set up"
        self.pid = int(Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text())

    def close(self) -> None:
        """End it, and all that runs on it."""
        self._process.kill()
        self._process.wait(DEADLINE)

    def run(self, command: str) -> tuple[int, str]:
        """A command's exit status and what it shows on a terminal."""
        terminal = Terminal()
        try:
            with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a device
                status = send(self._socket, command, nothing.fileno(), terminal.descriptor, terminal.descriptor)
        finally:
            shown = terminal.close()
        return status, shown

    def link(self, other: "Host", here: str, there: str) -> None:
        """Give the two an interface each, with these addresses, and a wire between them."""
        subprocess.run(
            ["ip", "link", "add", "wire", "netns", str(self.pid), "type", "veth",
             "peer", "name", "wire", "netns", str(other.pid)], check=True,
        )  # fmt: skip
        for host, address in ((self, here), (other, there)):
            status, shown = host.run(f"ip addr add {address} dev wire && ip link set wire up")
            assert status == 0, shown

    def write(self, path: str, text: str) -> None:
        """Write a file there."""
        scratch = self._socket.with_suffix(".file")
        scratch.write_text(text)
        status, shown = self.run(f"install -D -m 644 {scratch} {path}")
        assert status == 0, shown


def send(path: Path, command: str, *descriptors: int) -> int:
    """Have the host at this socket run a command with these as its input and outputs; its exit status."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as host:
        host.connect(str(path))
        socket.send_fds(host, [command.encode()], descriptors)
        return int(host.recv(16))


def _serve(path: Path) -> None:
    """Run what is sent here, until the host ends."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path.with_suffix(".new")))
    listener.listen()
    path.with_suffix(".new").rename(path)  # it can be connected to as soon as it is there
    while True:
        caller, _ = listener.accept()
        threading.Thread(target=_run, args=(caller,), daemon=True).start()


def _run(caller: socket.socket) -> None:
    command, descriptors, _, _ = socket.recv_fds(caller, MAX_COMMAND, 3)
    stdin, stdout, stderr = descriptors
    done = subprocess.run(["sh", "-c", command], stdin=stdin, stdout=stdout, stderr=stderr, cwd="/srv", check=False)
    for each in descriptors:
        os.close(each)
    caller.send(str(done.returncode).encode())
    caller.close()


def _set_up(folder: Path, name: str) -> None:
    """Make this process's namespaces a host."""
    scratch = folder / f"{name}.scratch"
    scratch.mkdir()
    places = {"scratch": scratch, "root": ROOT, "folder": folder}
    script = MOUNTS.format(**{place: shlex.quote(str(path)) for place, path in places.items()})
    subprocess.run(["sh", "-euc", script], check=True)
    _bring_up("lo")
    lines = [f"127.0.0.1 {each}.example.org" for each in NAMES]
    Path("/etc/hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
    programs = folder / f"{name}.bin"
    programs.mkdir()
    for program, text in PROGRAMS.items():
        filled = text.format(python=sys.executable, folder=shlex.quote(str(folder)))
        (programs / program).write_text(f"#!/bin/sh\n{filled}\n")
        (programs / program).chmod(0o755)
    os.environ.update(
        PATH=f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin",
        PYTHONPATH=str(ROOT),
        HOME="/srv",
        GIT_AUTHOR_NAME="operator",
        GIT_AUTHOR_EMAIL="operator@example.org",
        GIT_COMMITTER_NAME="operator",
        GIT_COMMITTER_EMAIL="operator@example.org",
        TERM="xterm",
        NO_COLOR="1",
        MCPROXY_CONFIG="/srv/mcproxy/mcproxy.toml",
        CURL_CA_BUNDLE=str(folder / "ca.pem"),
        SSL_CERT_FILE=str(folder / "ca.pem"),
    )
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def _bring_up(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14s", interface.encode(), 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(sock, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14s", interface.encode(), flags | 1, b""))


def main() -> None:
    """Be a host, or the program `ssh` on one."""
    folder, name, *rest = Path(sys.argv[1]), *sys.argv[2:]
    if name == "--ssh":
        host, *command = rest
        sys.exit(send(folder / f"{host}.sock", " ".join(command), 0, 1, 2))
    _set_up(folder, name)
    for port, each in enumerate(NAMES, FIRST_PORT):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate(folder, f"{each}.example.org"))
        Backend(tls(context, says(each)), port=port)
    (folder / f"{name}.scratch/index.html").write_text("www by way of mcproxy\n")
    nghttpd = ["nghttpd", "--no-tls", "--address=127.0.0.1", f"--htdocs={folder}/{name}.scratch", "8080"]
    subprocess.Popen(nghttpd, stdout=subprocess.DEVNULL)
    _serve(folder / f"{name}.sock")


if __name__ == "__main__":
    main()
