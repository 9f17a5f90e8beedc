import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import trustme

from mcproxy.certificates.surveyor import Survey, Surveyor
from mcproxy.model import Backend, Listener, Mode, Route
from mcproxy.table import Table
from tests.kit.hub import messages
from tests.kit.peers import DEADLINE, until

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
    assert repr(surveyor) == "<Surveyor logged=1>"


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


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "certificates"]


class Slow:
    """A table whose survey takes until it is let go on."""

    def __init__(self, whole: Table) -> None:
        self._whole = whole
        self.is_surveyed, self.go_on = threading.Event(), threading.Event()

    @property
    def listeners(self) -> object:
        self.is_surveyed.set()
        assert self.go_on.wait(DEADLINE)
        return self._whole.listeners


def test_tables_that_come_while_one_is_surveyed_wait_and_only_the_last_is_surveyed(tmp_path: Path) -> None:
    def absent(hostname: str) -> Route:
        return l7(tmp_path / "absent.pem", hostname)

    until(lambda: not threads(), "the threads of others")
    surveyor, slow = Surveyor(), Slow(table(absent("first.test")))
    with messages() as logged:
        surveyor.begin(slow)  # type: ignore[arg-type]
        assert slow.is_surveyed.wait(DEADLINE)
        for i in range(20):
            surveyor.begin(table(absent(f"n{i}.test")))
        assert len(threads()) == 1
        slow.go_on.set()
        until(lambda: not threads(), "the end")
        assert [line.split()[1] for line in logged] == ["first.test", "n19.test"]
        surveyor.begin(table(absent("later.test")))
        until(lambda: len(logged) == 3, "another survey")


def test_a_survey_that_fails_is_not_the_last(tmp_path: Path) -> None:
    surveyor = Surveyor()
    with messages() as logged:
        surveyor.begin(SimpleNamespace(listeners=None))  # type: ignore[arg-type]
        until(lambda: not threads(), "the end")
        assert "bug in the survey of certificates" in logged[0]
        surveyor.begin(table(l7(tmp_path / "absent.pem")))
        until(lambda: len(logged) == 2, "the next survey")


def test_the_table_in_force_is_surveyed_at_once_daily_and_when_asked(tmp_path: Path) -> None:
    surveyed: list[None] = []

    def in_force() -> Table:
        surveyed.append(None)
        return table(l7(tmp_path / "absent.pem"))

    survey = Survey(in_force, 3600.0)
    with messages() as logged:
        survey.start()
        survey.begin()
        until(lambda: len(logged) >= 1, "its line")
    assert len(surveyed) == 2
    survey.close()
    often = Survey(in_force, 0.001)
    often.start()
    until(lambda: len(surveyed) > 5, "further ones")
    often.close()
