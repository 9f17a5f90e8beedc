"""Clients that never stop connecting, until they are told to: was one of them refused?

    python -m tests.kit.visitors ADDRESS PORT NAME STOP

Each connection asks for the name, with TLS, and must get the backend's answer. When the file STOP is there, they end;
then the number of connections is printed, and how those failed that did.
"""

import socket
import ssl
import sys
import threading
from pathlib import Path

from tests.kit.peers import DEADLINE, read_all

CLIENTS = 4  # at a time


def visit(address: tuple[str, int], name: str, stop: Path, answers: list[bytes], failures: list[str]) -> None:
    """One connection after the other."""
    context = ssl.create_default_context()
    while not stop.exists():
        try:
            with (
                socket.create_connection(address, DEADLINE) as plain,
                context.wrap_socket(plain, server_hostname=name) as client,
            ):
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                answers.append(read_all(client))
        except OSError as error:
            failures.append(repr(error))


def main() -> None:
    """Connect, and say how it went."""
    host, port, name, stop = sys.argv[1:]
    answers, failures = list[bytes](), list[str]()
    clients = [
        threading.Thread(target=visit, args=((host, int(port)), name, Path(stop), answers, failures))
        for _ in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    whole = sum(answer.endswith(f"\r\n\r\n{name.partition('.')[0]}\n".encode()) for answer in answers)
    print(f"{whole} of {len(answers) + len(failures)} served", *sorted(set(failures)), sep="\n")


if __name__ == "__main__":
    main()
