"""A second reader of ClientHellos, written to be obviously right and nothing else: it eats its input from the front.

It shares no code and no technique with mcproxy/wire/hello.py: every vector is cut out as bytes of its own, so a reader
of its contents can't see what lies behind. Tests hold the two against each other.
"""

from mcproxy.wire.hello import Hello


class TooShort(Exception):
    """The connection's bytes end before the hello does."""


class Wrong(Exception):
    """Not a hello that can be routed."""


class Eater:
    def __init__(self, food: bytes) -> None:
        self.food = food

    def eat(self, count: int) -> bytes:
        if count > len(self.food):
            raise Wrong("a length exceeds its parent")
        eaten, self.food = self.food[:count], self.food[count:]
        return eaten

    def number(self, width: int) -> int:
        return int.from_bytes(self.eat(width), "big")

    def vector(self, width: int) -> "Eater":
        return Eater(self.eat(self.number(width)))

    def done(self) -> None:
        if self.food:
            raise Wrong("something is left over")


def read(data: bytes) -> Hello:
    """The hello at the start of `data`. Raises TooShort or Wrong."""
    message, size = join_records(data)
    body = Eater(message[4:])
    legacy_version = body.number(2)
    random = body.eat(32)
    session_id, suites, methods = body.vector(1).food, body.vector(2).food, body.vector(1).food
    if len(session_id) > 32 or not suites or len(suites) % 2 or not methods:
        raise Wrong("a field of a forbidden length")
    extensions: list[tuple[int, bytes]] = []
    if body.food:
        block = body.vector(2)
        body.done()
        while block.food:
            extensions.append((block.number(2), block.vector(2).food))
    contents = dict(extensions)
    if len(contents) != len(extensions):
        raise Wrong("an extension twice")
    return Hello(
        server_name=name_in(contents.get(0)),
        alpn=protocols_in(contents.get(16)),
        versions=versions_in(contents.get(43), legacy_version),
        ech=0xFE0D in contents,
        size=size,
        random=random,
    )


def join_records(data: bytes) -> tuple[bytes, int]:
    message, rest = b"", data
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        if len(rest) < 5 or len(rest) < 5 + int.from_bytes(rest[3:5], "big"):
            raise TooShort
        length = int.from_bytes(rest[3:5], "big")
        if rest[:2] != b"\x16\x03" or length == 0 or length > 2**14:
            raise Wrong("not a record of a handshake")
        message, rest = message + rest[5 : 5 + length], rest[5 + length :]
    if message[0] != 1 or len(message) > 4 + int.from_bytes(message[1:4], "big"):
        raise Wrong("not one ClientHello")
    return message, len(data) - len(rest)


def name_in(content: bytes | None) -> str:
    if content is None:
        raise Wrong("no name")
    extension = Eater(content)
    names = extension.vector(2)
    extension.done()
    if names.number(1) != 0:
        raise Wrong("not a host name")
    name = names.vector(2).food
    names.done()
    return host_name(name)


def host_name(raw: bytes) -> str:
    name = raw.decode("latin-1").lower()
    if name[-1:] == ".":
        name = name[:-1]
    labels = name.split(".")
    for label in labels:
        if not 1 <= len(label) <= 63 or label[0] == "-" or label[-1] == "-":
            raise Wrong("a bad label")
        if set(label) - set("abcdefghijklmnopqrstuvwxyz0123456789-_"):
            raise Wrong("a bad character")
    if len(name) > 253 or not set(labels[-1]) - set("0123456789"):
        raise Wrong("too long, or an address")
    return name


def protocols_in(content: bytes | None) -> tuple[bytes, ...]:
    if content is None:
        return ()
    extension = Eater(content)
    names = extension.vector(2)
    found: list[bytes] = []
    extension.done()
    while names.food or not found:
        found.append(names.vector(1).food)
    if b"" in found:
        raise Wrong("an empty protocol name")
    return tuple(name for name in found if not (len(name) == 2 and name[0] == name[1] and name[0] % 16 == 10))


def versions_in(content: bytes | None, legacy_version: int) -> tuple[int, ...]:
    if content is None:
        return (legacy_version,)
    extension = Eater(content)
    versions = extension.vector(1)
    found: list[int] = []
    extension.done()
    while versions.food or not found:
        found.append(versions.number(2))
    return tuple(version for version in found if not (version // 256 == version % 256 and version % 16 == 10))
