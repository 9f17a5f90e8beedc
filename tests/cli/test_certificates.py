import time
from dataclasses import replace
from pathlib import Path

import pytest

from mcproxy.certificates.routes import Listed
from mcproxy.model import Backend, Listener, Mode, Route, Tls
from mcproxy.store.store import ListenerRoutes
from tests.kit.commands import shell

L7 = Route("www.example.org", Backend("127.0.0.1", 1), Mode.L7, "/a.pem", "/a.key")
SEED: list[ListenerRoutes] = [(Listener(":443"), [L7, Route("git.example.org", Backend("127.0.0.1", 1))])]


@pytest.mark.parametrize(
    ("listed", "shown"),
    [
        (
            Listed("files", "/a.pem", ["www.example.org"], "R11", 1e9, 4e9),
            ["files", "www.example.org", "R11", "2096-10-02 07:06:40Z", "ok for "],
        ),
        (Listed("files", "/a.pem", problem="/a.pem is empty"), ["files", "-", "-", "-", "/a.pem is empty"]),
        (Listed("files", "/a.pem"), ["files", "-", "-", "-", "in use; its dates can't be read"]),
    ],
)
def test_it_lists_the_certificates_of_l7_routes(tmp_path: Path, listed: Listed, shown: list[str]) -> None:
    with shell(tmp_path, seed=SEED) as (user, control):
        control.plane.listed = listed
        (row,) = user.rows("certificates", "list")
        assert row[:2] == [":443", "www.example.org"]
        assert row[2:-1] == shown[:-1]
        assert row[-1].startswith(shown[-1])
        (plain,) = user.json("certificates", "list")
        assert (plain["hostname"], plain["path"], plain["problem"]) == (L7.hostname, listed.path, listed.problem)
        assert listed.not_after in {0.0, 4e9}
        assert time.time() < 4e9, "this test is out of date"


@pytest.mark.parametrize(
    ("listed", "state"),
    [
        (Listed("acme", not_after=4e9, state="waiting", next_at=3e9), "ok, renewal in "),
        (Listed("acme", not_after=4e9, state="validating", next_at=3e9), "validating, a renewal"),
        (
            Listed("acme", not_after=4e9, state="waiting", next_at=3e9, failures=2, failure="no route (connection)"),
            "not renewed: try 2 failed, next one in 13",
        ),
        (Listed("acme", not_after=4e9, state="waiting", failure="the CA is away"), "not renewed: the CA is away"),
        (Listed("acme", problem="none for x yet", state="ordering"), "none yet: its order is ordering"),
        (Listed("acme", problem="none for x yet", state="waiting"), "none yet: its order begins soon"),
        (Listed("acme", problem="x", state="waiting", failure="there is no [acme]"), "none yet: there is no [acme]"),
        (Listed("acme", not_after=1.0, problem="it expired", state="waiting"), "it expired"),
    ],
)
def test_it_shows_how_an_order_does(tmp_path: Path, listed: Listed, state: str) -> None:
    with shell(tmp_path, seed=SEED) as (user, control):
        control.plane.listed = listed
        (row,) = user.rows("certificates", "list")
        assert row[-1].startswith(state)


def test_a_renewal_is_asked_for(tmp_path: Path) -> None:
    routes: list[ListenerRoutes] = [(Listener(":443"), [replace(L7, tls=Tls.ACME, tls_cert="", tls_key="")])]
    with shell(tmp_path, seed=routes) as (user, control):
        assert user.ok("certificates", "renew", "WWW.example.org") == (
            "a certificate for www.example.org is ordered: mcproxy certificates list\n"
        )
        assert ("renew", "www.example.org") in control.plane.calls
        control.plane.obstacle = "the CA can't be asked: Connection refused"
        said = user.ok("certificates", "renew", "www.example.org")
        assert said == f"a certificate for www.example.org will be ordered, but not now: {control.plane.obstacle}\n"
        control.plane.lacks = "there is no [acme]; add it"
        told = user.fails(2, "certificates", "renew", "www.example.org")
        assert told == "mcproxy: HOST: no certificate can be ordered for www.example.org: there is no [acme]; add it"
        assert user.fails(1, "certificates", "renew", "git.example.org").startswith("mcproxy: there is no l7 route")
