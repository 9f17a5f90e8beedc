"""Playbooks: bytes of one side in, frames for both sides out. Both are scripted; nothing reacts by itself."""

from collections.abc import Iterable

from hpack import Decoder, Encoder

from mcproxy.l7.http2.stream import Stream
from mcproxy.l7.relay.relay import Relay
from mcproxy.wire import http2
from mcproxy.wire.http2 import PREFACE, Frame
from tests.kit.http2_peer import GET, HOST, Cutter, Seen
from tests.kit.inbox import Inbox

OURS = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https"), ("x-real-ip", "192.0.2.1")]
Fields = Iterable[tuple[str, str]]
OK = [(":status", "200")]


class Book:
    """A relay with a client and a backend that say what the test says."""

    def __init__(
        self,
        client_settings: Iterable[tuple[int, int]] = (),
        backend_settings: Iterable[tuple[int, int]] = (),
        start: bool = True,
    ) -> None:
        self._records: list[Stream] = []
        self.now = 100.0
        self.idle = 300.0  # seconds, of idle_timeout
        self.relay = Relay(HOST, "192.0.2.1", lambda host: host == b"b.test", self.now)
        self.from_client, self.from_backend = (
            Inbox(self.relay.receive_from_client),
            Inbox(self.relay.receive_from_backend),
        )
        self.up, self.down = Cutter(), Cutter()
        self.client_encoder, self.backend_encoder = Encoder(), Encoder()
        self.client_decoder, self.backend_decoder = Decoder(), Decoder()
        self.to_client: list[Seen] = []
        self.to_backend: list[Seen] = []
        self._greeted = False
        self.expressed = 0  # bytes of the backend's
        if start:
            self.client(PREFACE + http2.settings(list(client_settings)))
            self.backend(http2.settings(list(backend_settings)) + http2.SETTINGS_ACK)
            self.client(http2.SETTINGS_ACK)
            self.drop()

    @property
    def records(self) -> list[Stream]:
        """All exchanges that have ended."""
        self._records += self.relay.take_ended()
        return self._records

    def drop(self) -> None:
        """Forget what was seen."""
        self.take_up()
        self.take_down()

    def collect(self) -> None:
        data = b"".join(self.relay.take_for_backend())
        if not self._greeted and data:
            assert data.startswith(PREFACE)
            data, self._greeted = data[len(PREFACE) :], True
        self.to_backend += self.up.feed(data)
        self.to_client += self.down.feed(b"".join(self.relay.take_for_client()))

    def client(self, data: bytes) -> None:
        self.from_client.in_turns(data, self.now)
        self.collect()

    def backend(self, data: bytes) -> None:
        """As the drive does it: in the express lane as far as that goes."""
        taken = 0 if self.from_backend.pending else self.relay.express(data, self.now)
        self.expressed += taken
        if taken < len(data):
            self.from_backend.in_turns(data[taken:], self.now)
        self.collect()

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.relay.tick(self.now, self.idle)
        self.collect()

    def request(self, stream_id: int = 1, fields: Fields = GET, end: bool = True, indexed: bool = True) -> None:
        self.client(http2.headers(stream_id, self.block(self.client_encoder, fields, indexed), end))

    def answer(self, stream_id: int = 1, fields: Fields = OK, end: bool = True, indexed: bool = True) -> None:
        self.backend(http2.headers(stream_id, self.block(self.backend_encoder, fields, indexed), end))

    @staticmethod
    def block(encoder: Encoder, fields: Fields, indexed: bool = True) -> bytes:
        return bytes(encoder.encode([(n, v, not indexed) for n, v in fields]))

    def take_up(self) -> list[tuple[str, int, object]]:
        """What went to the backend, readable: (type, stream, what)."""
        seen, self.to_backend = self.to_backend, []
        return [readable(each, self.backend_decoder) for each in seen]

    def take_down(self) -> list[tuple[str, int, object]]:
        """What went to the client."""
        seen, self.to_client = self.to_client, []
        return [readable(each, self.client_decoder) for each in seen]


def fields_of(seen: Seen, decoder: Decoder) -> list[tuple[str, str]]:
    return [(bytes(n).decode(), bytes(v).decode("utf-8", "replace")) for n, v in decoder.decode(seen.payload, raw=True)]


def readable(seen: Seen, decoder: Decoder) -> tuple[str, int, object]:
    name = Frame(seen.kind).name + ("!" if seen.ends else "")  # "!": END_STREAM
    if seen.kind == Frame.HEADERS:
        assert seen.flags & 4, "blocks of playbooks fit one frame"
        return name, seen.stream_id, fields_of(seen, decoder)
    if seen.kind == Frame.RST_STREAM:
        return name, seen.stream_id, seen.code
    if seen.kind == Frame.GOAWAY:
        return name, int.from_bytes(seen.payload[:4], "big"), seen.code
    if seen.kind == Frame.WINDOW_UPDATE:
        return name, seen.stream_id, int.from_bytes(seen.payload, "big")
    if seen.kind == Frame.SETTINGS:
        return name, seen.flags, dict(http2.parse_settings(seen.payload))
    return name, seen.stream_id, seen.payload
