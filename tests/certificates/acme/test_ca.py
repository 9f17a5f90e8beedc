"""The CA by Certbot's library, with a server that answers what the test says."""

import base64
import datetime as dt
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mcproxy.certificates.acme.ca import CA, MAX_ANSWER
from mcproxy.certificates.acme.challenge import new_key
from mcproxy.certificates.acme.contract import Asked, CaSettings, OrderLost, Refusal
from tests.kit.acme_stub import StubCA
from tests.kit.peers import Authority, free_port

BORN, DIES = dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
Answer = tuple[int, dict[str, str], Any]  # status, header fields, JSON or bytes


class Answers:
    """A server with a directory and nonces; everything else is answered in turn."""

    def __init__(self, authority: Authority) -> None:
        self.next: list[Answer] = []
        self.asked: list[tuple[str, Any]] = []  # paths, and payloads
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._send(200, {}, b"")

            def do_GET(self) -> None:
                outer.asked.append((self.path, None))
                if self.path == "/dir":
                    names = ("newNonce", "newAccount", "newOrder", "renewalInfo")
                    self._send(200, {}, {name: f"{outer.url}/{name}" for name in names})
                else:
                    self._send(*outer.next.pop(0))

            def do_POST(self) -> None:
                outer.asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                self._send(*outer.next.pop(0))

            def _send(self, status: int, fields: dict[str, str], value: Any) -> None:
                body = value if isinstance(value, bytes) else json.dumps(value).encode()
                kind = "application/problem+json" if status >= 400 else "application/json"
                self.send_response_only(status)  # without a Date of its own
                fields = {"Content-Type": kind, "Replay-Nonce": "bm9uY2U", "Content-Length": str(len(body)), **fields}
                for name, text in fields.items():
                    self.send_header(name, text)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.pair("127.0.0.1"))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def answers(authority: Authority) -> Iterator[Answers]:
    server = Answers(authority)
    yield server
    server.close()


def ca(answers: Answers, authority: Authority) -> CA:
    settings = CaSettings(f"{answers.url}/dir", "me@example.org", "shortlived", str(authority.path))
    return CA(settings, new_key(), f"{answers.url}/account/1")


@pytest.mark.parametrize(
    "answer",
    [(404, {}, b""), (404, {}, {"type": "about:blank"}), (400, {}, {"type": "urn:ietf:params:acme:error:malformed"})],
)
def test_an_order_that_the_ca_has_lost_is_told_from_a_refusal(
    answers: Answers, authority: Authority, answer: Answer
) -> None:
    asking = ca(answers, authority)
    answers.next = [answer]
    with pytest.raises(OrderLost, match="the CA no longer has the order: "):
        asking.look(f"{answers.url}/order/1")
    answers.next = [(503, {}, b"")]
    with pytest.raises(Refusal, match="503") as caught:
        asking.look(f"{answers.url}/order/1")
    assert not isinstance(caught.value, OrderLost)


def problem(code: str, detail: str) -> dict[str, str]:
    return {"type": f"urn:ietf:params:acme:error:{code}", "detail": detail}


def test_an_order_names_the_profile(answers: Answers, authority: Authority) -> None:
    answers.next = [(201, {"Location": f"{answers.url}/order/1"}, {"status": "pending"})]
    assert ca(answers, authority).order("a.test", None) == f"{answers.url}/order/1"

    assert said(answers.asked[-1]) == {"identifiers": [{"type": "dns", "value": "a.test"}], "profile": "shortlived"}


@pytest.mark.parametrize(
    ("answer", "words", "code", "retry_after", "whole"),
    [
        (
            (429, {"Retry-After": "120"}, problem("rateLimited", "too many\ncertificates")),
            "too many certificates (rateLimited)", "rateLimited", 120.0, False,
        ),
        (
            (429, {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}, problem("rateLimited", "wait")),
            "wait (rateLimited)", "rateLimited", 30 * 86_400.0, False,
        ),
        (
            (400, {"Retry-After": "soon"}, problem("rejectedIdentifier", "not this one")),
            "not this one (rejectedIdentifier)", "rejectedIdentifier", 0.0, False,
        ),
        (
            (429, {"Retry-After": f"Fri, 01 Jan {'9' * 20} 00:00:00 GMT"}, problem("rateLimited", "wait")),
            "wait (rateLimited)", "rateLimited", 0.0, False,
        ),
        (
            (400, {}, problem("accountDoesNotExist", "who?")),
            "who? (accountDoesNotExist)", "accountDoesNotExist", 0.0, True,
        ),
        (
            # A clock that is four hours fast would ask again at once, one that is slow much too late.
            (429, {"Retry-After": "Sat, 03 Jan 1970 02:00:00 GMT", "Date": "Sat, 03 Jan 1970 00:00:00 GMT"},
             problem("rateLimited", "wait")),
            "wait (rateLimited)", "rateLimited", 7200.0, False,
        ),
        (
            (403, {}, {**problem("userActionRequired", "terms have changed"), "instance": "https://ca.test/agree"}),
            "terms have changed (userActionRequired); go to https://ca.test/agree", "userActionRequired", 0.0, True,
        ),
        (
            (400, {}, problem("invalidProfile", "no profile x")),
            "no profile x (invalidProfile)", "invalidProfile", 0.0, True,
        ),
        ((503, {"Retry-After": "60"}, b"<html>"), "{}/newOrder answered 503", "", 60.0, True),
    ],
)  # fmt: skip
def test_a_refusal_has_the_cas_words_and_its_pause(
    answers: Answers, authority: Authority, answer: Answer, words: str, code: str, retry_after: float, whole: bool
) -> None:
    answers.next = [answer]
    with pytest.raises(Refusal) as caught:
        ca(answers, authority).order("a.test", None)
    assert (str(caught.value), caught.value.code, caught.value.whole) == (words.format(answers.url), code, whole)
    assert caught.value.retry_after == retry_after


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        ((200, {}, {"status": "valid"}), True),
        ((200, {}, {"status": "deactivated"}), False),
        ((403, {}, problem("unauthorized", "it is deactivated")), False),
        ((400, {}, problem("accountDoesNotExist", "who?")), False),
    ],
)
def test_whether_the_ca_takes_the_account(answers: Answers, authority: Authority, answer: Answer, valid: bool) -> None:
    answers.next = [answer]
    assert ca(answers, authority).is_valid() is valid
    assert answers.asked[-1][0] == "/account/1"


def test_an_account_gets_another_address(answers: Answers, authority: Authority) -> None:
    answers.next = [(200, {}, {"status": "valid"})]
    ca(answers, authority).write_to("new@example.org")
    assert answers.asked[-1][0] == "/account/1"
    assert said(answers.asked[-1]) == {"contact": ["mailto:new@example.org"]}


def test_bad_nonces_are_tried_again_but_not_for_ever(answers: Answers, authority: Authority) -> None:
    bad: Answer = (400, {}, problem("badNonce", "old"))
    answers.next = [*[bad] * 5, (201, {"Location": "https://ca.test/1"}, {})]
    assert ca(answers, authority).order("a.test", None) == "https://ca.test/1"
    answers.next = [bad] * 40
    with pytest.raises(Refusal, match="badNonce"):
        ca(answers, authority).order("a.test", None)
    assert len(answers.next) > 20


def test_an_order_is_looked_at_with_its_challenge(answers: Answers, authority: Authority) -> None:
    asked = ca(answers, authority)
    order = {"status": "pending", "authorizations": [f"{answers.url}/authz/1"], "finalize": f"{answers.url}/final"}
    challenges = [
        {"type": "http-01", "status": "pending", "url": "u0", "token": "t0"},
        {"type": "tls-alpn-01", "status": "pending", "url": "u1", "token": "t1"},
    ]
    answers.next = [(200, {"Retry-After": "7"}, order), (200, {}, {"status": "pending", "challenges": challenges})]
    seen = asked.look(f"{answers.url}/order/1")
    assert (seen.status, seen.challenge, seen.token, seen.retry_after) == ("pending", "u1", "t1", 7.0)
    assert not seen.is_looking
    assert asked.key_authorization("t1").startswith("t1.")
    told = [{**challenges[1], "status": "processing"}]
    answers.next = [(200, {}, order), (200, {}, {"status": "pending", "challenges": told})]
    assert asked.look(f"{answers.url}/order/1").is_looking
    answers.next = [(200, {}, order), (200, {}, {"status": "pending", "challenges": challenges[:1]})]
    assert asked.look(f"{answers.url}/order/1").problem == "the CA offers no tls-alpn-01 for this name"
    failed = {**challenges[1], "status": "invalid", "error": problem("connection", "no route")}
    answers.next = [(200, {}, {**order, "status": "invalid"}), (200, {}, {"status": "invalid", "challenges": [failed]})]
    assert asked.look(f"{answers.url}/order/1").problem == "no route (connection)"


def test_when_to_renew(answers: Answers, authority: Authority) -> None:
    asked = ca(answers, authority)
    chain = Path(authority.pair("a.test")[0]).read_bytes()
    window = {"suggestedWindow": {"start": "2030-01-01T00:00:00Z", "end": "2030-01-02T00:00:00Z"}}
    answers.next = [(200, {"Retry-After": "21600"}, window)]
    assert asked.renewal(chain) == (1893456000.0, 1893542400.0, 21600.0)
    assert answers.asked[-1][0].startswith("/renewalInfo/")
    for senseless in ({}, {"start": window["suggestedWindow"]["end"], "end": window["suggestedWindow"]["start"]}):
        answers.next = [(200, {}, {"suggestedWindow": senseless})]
        with pytest.raises(Refusal, match="makes no sense"):
            asked.renewal(chain)


def test_a_server_that_is_not_there_or_is_somebody_else(answers: Answers, authority: Authority) -> None:
    with pytest.raises(Refusal) as caught:
        CA(CaSettings(url := f"https://127.0.0.1:{free_port()}/dir"), new_key(), "").register()
    assert (str(caught.value), caught.value.whole) == (f"the CA can't be asked at {url}: Connection refused", True)
    with pytest.raises(
        Refusal, match=r"/dir: .*certificate verify failed.*[^)]; \[acme\] ca names the file of the CAs"
    ):
        CA(CaSettings(f"{answers.url}/dir"), new_key(), "").register()
    answers.next = [(200, {}, {"hello": "world"})]
    with pytest.raises(Refusal, match="is no ACME directory: it has no newAccount"):
        CA(CaSettings(f"{answers.url}/other", ca=str(authority.path)), new_key(), "").register()


def test_the_stub_in_memory_has_the_same_calls() -> None:
    calls = {name for name in vars(Asked) if not name.startswith("_")}
    assert "finalize" in calls
    assert all(callable(getattr(each, name)) for name in calls for each in (CA, StubCA))


def test_an_order_names_what_it_renews_where_the_ca_knows_of_renewals(answers: Answers, authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(0x8765).not_valid_before(BORN).not_valid_after(DIES)
    identified = builder.add_extension(x509.AuthorityKeyIdentifier(b"\x01\x02", None, None), critical=False)
    chain = identified.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    made: Answer = (201, {"Location": "https://ca.test/1"}, {})
    refusals: list[Answer] = [
        (409, {}, problem("alreadyReplaced", "it was")),
        (400, {}, problem("malformed", "replaces")),
    ]
    for refused in refusals:
        answers.next, seen = [refused, made], len(answers.asked)
        assert ca(answers, authority).order("a.test", chain) == "https://ca.test/1"
        orders = [said(each) for each in answers.asked[seen:] if each[0] == "/newOrder"]
        # RFC 9773, section 4.1: the key identifier, and the serial number with its sign bit.
        assert [each.get("replaces") for each in orders] == ["AQI.AIdl", None]
    answers.next = [made]
    plain = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    assert ca(answers, authority).order("a.test", plain) == "https://ca.test/1"
    assert "replaces" not in said(answers.asked[-1])


@pytest.mark.parametrize(
    "answer",
    [
        (200, {}, []),
        (200, {}, {"status": "pending", "authorizations": 5}),
        (200, {}, b"<html>"),
        (200, {}, b"[" * 100_000),  # json's RecursionError was taken for a bug of ours
    ],
)
def test_what_makes_no_sense_is_the_cas_fault(answers: Answers, authority: Authority, answer: Answer) -> None:
    answers.next = [answer]
    with pytest.raises(Refusal) as caught:
        ca(answers, authority).look(f"{answers.url}/order/1")
    assert caught.value.whole
    answers.next = [(201, {}, {})]
    with pytest.raises(Refusal, match="makes no sense: 'location'"):
        ca(answers, authority).order("a.test", None)


def test_an_answer_is_read_as_far_as_its_bound(answers: Answers, authority: Authority) -> None:
    answers.next = [(200, {}, b"x" * (MAX_ANSWER + 1))]
    with pytest.raises(Refusal, match="its answer has more than 1 MiB"):
        ca(answers, authority).download(f"{answers.url}/chain")
    answers.next = [(200, {}, b"x" * MAX_ANSWER)]
    assert len(ca(answers, authority).download(f"{answers.url}/chain")) == MAX_ANSWER


def said(asked: tuple[str, Any]) -> dict[str, Any]:
    """The payload of a request."""
    payload = asked[1]["payload"]
    found = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert isinstance(found, dict)
    return found
