from dataclasses import replace
from pathlib import Path

import trustme

from mcproxy.model import Backend, Listener, Mode, Route
from mcproxy.surveyor import Surveyor
from mcproxy.table import Table
from tests.hub import messages
from tests.peers import until

BACKEND = Backend("127.0.0.1", 1)
L4 = Route("b.test", BACKEND)


def l7(certificate: Path, hostname: str = "a.test") -> Route:
    return Route(hostname, BACKEND, Mode.L7, str(certificate), str(certificate))


def table(*routes: Route) -> Table:
    return Table.build([(Listener(":443"), list(routes))], [], 1)


def issue(folder: Path, *names: str) -> Path:
    path = folder / "pair.pem"
    trustme.CA().issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(path)
    return path


def surveyed(surveyor: Surveyor, *routes: Route) -> list[str]:
    with messages() as logged:
        surveyor.survey(table(*routes))
    return logged


def test_what_only_follows_from_the_routes_is_told_once(tmp_path: Path) -> None:
    surveyor = Surveyor()
    pair = l7(issue(tmp_path, "a.test", "b.test"))
    (told,) = surveyed(surveyor, pair, L4)
    assert told.startswith(
        f"warning a.test on :443: tls_cert: {pair.tls_cert}, the certificate of a.test, also covers b.test:"
    )
    assert surveyed(surveyor, pair, L4) == [], "nothing has changed"
    (told,) = surveyed(surveyor, pair, L4, l7(Path(pair.tls_cert), "b.test"))
    assert told.startswith("warning b.test on :443:"), "the other direction is new"
    assert surveyed(surveyor, pair) == []
    assert len(surveyed(surveyor, pair, L4)) == 1, "it had ceased, and is true again"
    assert repr(surveyor) == "<Surveyor told=1>"


def test_what_is_wrong_is_told_each_time(tmp_path: Path) -> None:
    surveyor = Surveyor()
    for _ in range(2):
        (told,) = surveyed(surveyor, l7(tmp_path / "absent.pem"))
        assert told.startswith(f"error a.test on :443: tls_cert: {tmp_path}/absent.pem can't be read: No such file")


def test_the_ca_of_a_backend_is_told_with_its_route(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("junk")
    (told,) = surveyed(Surveyor(), replace(l7(issue(tmp_path, "a.test")), backend_tls=True, backend_ca=str(ca)))
    assert told.startswith(f"error a.test on :443: backend_ca: {ca} holds no CA certificate in PEM form: ")


def test_it_takes_a_thread_of_its_own(tmp_path: Path) -> None:
    with messages() as logged:
        Surveyor().begin(table(l7(tmp_path / "absent.pem")))
        until(lambda: logged, "the survey's line")
