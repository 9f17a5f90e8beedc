"""The values print as an operator would write them."""

import pytest

from mcproxy.model import (
    IDS_APART,
    MAX_WORKERS,
    Backend,
    Reason,
    Refused,
    counted,
    host_of,
    host_port,
    worker_of,
)


@pytest.mark.parametrize(
    ("backend", "text"),
    [
        (Backend("127.0.0.1", 3000), "127.0.0.1:3000"),
        (Backend("git.internal", 443), "git.internal:443"),
        (Backend("::1", 443), "[::1]:443"),
        (Backend(path="/run/git.sock"), "unix:/run/git.sock"),
    ],
)
def test_backend_prints_as_configured(backend: Backend, text: str) -> None:
    assert str(backend) == text


def test_refusal_names_its_reason_and_detail() -> None:
    assert str(Refused(Reason.SNI_MISSING)) == "sni_missing"
    assert str(Refused(Reason.HELLO_MALFORMED, "extension 10 exceeds its list")) == (
        "hello_malformed: extension 10 exceeds its list"
    )


def test_one_thing_is_not_several() -> None:
    assert [counted(count, "route") for count in (0, 1, 2)] == ["0 routes", "1 route", "2 routes"]


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "", "git.example.org"])
def test_the_host_of_an_endpoint_is_the_one_that_was_put_in(host: str) -> None:
    assert host_of(host_port(host, 443)) == host


def test_the_id_of_a_connection_ends_in_its_worker() -> None:
    assert MAX_WORKERS < IDS_APART
    assert [worker_of(serial * IDS_APART + worker) for serial, worker in ((1, 1), (7, MAX_WORKERS))] == [1, MAX_WORKERS]
