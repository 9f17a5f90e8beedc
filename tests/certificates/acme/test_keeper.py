"""The keeper, with a CA in memory: what it asks, what is durable before, what it tries when."""

import logging
import ssl
from contextlib import suppress
from dataclasses import replace

import pytest

from mcproxy.certificates.acme import keeper
from mcproxy.certificates.acme.contract import CaSettings, NotDurable, Refusal
from mcproxy.certificates.acme.keeper import ORDERS_AN_HOUR
from mcproxy.certificates.acme.order import Order, State
from mcproxy.certificates.pem import fill
from mcproxy.model import Backend, FirewallRule, Mode, Route, RuleKind
from mcproxy.policy.firewall import Firewall
from tests.kit.acme_stub import AWAY, DAY, DIRECTORY, START, Bench, StubCA, asked, table
from tests.kit.hub import messages
from tests.kit.peers import Authority, until

A = "a.test"


def test_an_order_goes_its_way_and_each_state_is_durable_first() -> None:
    bench = Bench(A)
    order = bench.until_waiting(A)
    assert bench.rows.log == [
        "account",
        "account",
        "a.test ordering",
        "a.test validating",
        "a.test validating",
        "a.test issuing",
        "a.test waiting",
    ]
    assert [each.split()[0] for each in bench.ca.calls if not each.startswith(("look", "renewal"))] == [
        "register", "order", "begin", "finalize", "download",
    ]  # fmt: skip
    kept = bench.workers.names[A]
    assert kept.pair is not None
    fill(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), kept.pair)
    assert kept.certificate is not None
    assert (kept.certificate.names, kept.certificate.issuer, kept.challenge) == ((A,), "Stub CA", None)
    assert order.next_at == pytest.approx(START + 90 * DAY * (2 / 3 - 0.015), abs=DAY / 2)


def test_the_challenge_is_there_before_the_ca_is_told_to_look_and_gone_afterwards() -> None:
    bench = Bench(A)
    seen = []

    def look(method: str) -> None:
        if method == "begin":
            seen.append(bench.workers.names[A].challenge)

    bench.ca.on_call = look
    bench.until_waiting(A)
    (challenge,) = seen
    assert challenge is not None
    assert b"CERTIFICATE" in challenge.chain
    assert bench.workers.names[A].challenge is None


def test_no_key_leaves_the_keeper_but_in_its_row() -> None:
    bench = Bench(A)
    bench.step()
    assert bench.rows.order_rows[A].key.startswith("-----BEGIN PRIVATE KEY")
    assert bench.workers.names[A].order.key == ""
    shown = f"{bench.workers.names[A]!r} {bench.rows.order_rows[A]!r} {bench.rows.accounts[DIRECTORY]!r}"
    assert "PRIVATE" not in shown


@pytest.mark.parametrize("killed_after", range(1, 8))
def test_killed_after_any_write_nothing_is_ordered_twice_and_nothing_lost(killed_after: int) -> None:
    """The process ends with a write; what the CA did after it, and before the next one, it did or did not."""
    bench = Bench(A)
    written: list[Order] = []

    def die(order: Order) -> None:
        written.append(order)
        if len(written) == killed_after:
            raise KeyboardInterrupt

    bench.rows.after_order = die
    for _ in range(12):
        try:
            bench.step(1.0)
        except KeyboardInterrupt:
            bench.restart()
    for _ in range(12):
        bench.step(1.0)
    if killed_after == 1:  # while the CA was asked: nobody knows whether there is an order
        failed = bench.workers.names[A].order
        assert (failed.failure, len(asked(bench, "order"))) == (keeper.CUT_OFF, 0)
        bench.now = failed.next_at
        bench.until_waiting(A)
    assert len(asked(bench, "order")) == 1
    assert bench.workers.names[A].pair is not None


def test_a_failed_validation_is_told_in_the_cas_words_and_tried_again_later_and_later() -> None:
    bench = Bench(A)
    bench.ca.invalid = "no route to it (connection)"
    pauses = []
    for number in (1, 2, 3):
        order = bench.until_waiting(A)
        assert (order.failures, order.failure) == (number, "no route to it (connection)")
        pauses.append(order.next_at - order.failed_at)
        bench.now = order.next_at - 5
        bench.step()
        assert len(asked(bench, "order")) == number, "not before its time"
        bench.restart()
        bench.step()
        assert len(asked(bench, "order")) == number, "not after a restart either"
        bench.now = order.next_at - 1
    assert pauses == pytest.approx([630, 1260, 2520])
    bench.ca.invalid = ""
    bench.now += 1
    bench.step()
    for _ in range(9):
        bench.step(1.0)
    order = bench.workers.names[A].order
    assert order == Order(A, directory=DIRECTORY, next_at=order.next_at, began=order.began), "and forgotten"


def test_a_blocked_country_is_named_with_a_failed_validation() -> None:
    bench = Bench(A)
    bench.table = replace(bench.table, firewall=Firewall.compile([FirewallRule(RuleKind.COUNTRY, "DE")]))
    bench.ca.invalid = "timeout (connection)"
    assert bench.until_waiting(A).failure == (
        "timeout (connection); the firewall blocks DE, and a CA validates from several countries and networks"
    )


def test_a_ca_that_goes_away_in_the_middle_is_asked_for_the_same_order() -> None:
    bench = Bench(A)
    bench.step()
    bench.ca.refuse["look"] = [AWAY]
    bench.step(1)
    assert bench.workers.names[A].order.state is State.VALIDATING
    bench.now += 20
    bench.until_waiting(A)
    assert len(asked(bench, "order")) == 1


def test_a_new_process_answers_the_challenge_before_it_asks_and_does_not_have_the_ca_look_twice() -> None:
    """Clients were refused until the CA was asked; and told again, it looked again, when nobody answered any more."""
    bench = Bench(A)
    bench.ca.on_call = lambda method: bench.ca.looking.add(A) if method == "begin" else None
    bench.step()
    bench.step(1)
    bench.ca.names[A] = "pending"  # and it looks
    with messages() as logged:
        bench.restart()
    assert logged == ["info a.test: goes on with its order, which is validating since 2027-01-15 08:00:00Z"]
    assert bench.workers.names[A].challenge is not None
    bench.step(1)
    bench.step(1)
    assert asked(bench, "begin") == ["begin a.test"]
    bench.ca.names[A] = "ready"
    bench.until_waiting(A)
    assert len(asked(bench, "order")) == 1


def test_an_answer_to_have_the_ca_look_that_got_lost_is_asked_for_again() -> None:
    """The order stayed as it was until its 15 minutes were over."""
    bench = Bench(A)
    bench.ca.refuse["begin"] = [AWAY]
    bench.step()
    bench.step(1)
    bench.now += 20
    assert bench.until_waiting(A).failures == 0
    assert len(asked(bench, "begin")) == 2
    assert len(asked(bench, "order")) == 1


def test_a_validation_that_nobody_answered_as_the_process_began_is_tried_again_soon_once() -> None:
    """It cost a new route ten minutes, as if the name were at fault."""
    bench = Bench(A)
    for failures in (0, 1):
        bench.step()
        bench.step(1)
        bench.ca.names[A], bench.ca.invalid = "invalid", "Failed to connect (unauthorized)"
        bench.restart()
        bench.step(1)
        order = bench.workers.names[A].order
        assert (order.state, order.failures) == (State.WAITING, failures)
        assert "Failed to connect (unauthorized)" in order.failure
        bench.now, bench.ca.invalid = order.next_at, ""
    assert order.next_at - order.failed_at == 630
    bench.step()
    bench.step(1)
    assert bench.until_waiting(A).failure == ""


def test_an_order_that_was_refused_by_the_whole_ca_is_not_a_try() -> None:
    bench = Bench(A)
    bench.ca.refuse["order"] = [Refusal("the CA answered 503", whole=True, retry_after=120.0)]
    bench.step()
    assert (bench.workers.names[A].order.state, bench.workers.names[A].order.failures) == (State.WAITING, 0)
    bench.step(119)
    assert len(asked(bench, "order")) == 1, "Retry-After is obeyed"
    bench.step(1)
    assert len(asked(bench, "order")) == 2


@pytest.mark.parametrize(("retry_after", "pause"), [(0.0, 3600.0), (7200.0, 7200.0)])
def test_a_rate_limit_is_obeyed_for_the_name_only(retry_after: float, pause: float) -> None:
    bench = Bench(A, "b.test")
    bench.ca.refuse["order"] = [Refusal("too many certificates (rateLimited)", "rateLimited", retry_after)]
    bench.step()
    limited = bench.workers.names[A].order
    assert limited.next_at == bench.now + pause
    assert limited.failure == "too many certificates (rateLimited)"
    assert bench.until_waiting("b.test").failures == 0


def test_fifty_names_are_ordered_together_and_no_more_than_the_budget_an_hour() -> None:
    names = [f"n{number}.test" for number in range(ORDERS_AN_HOUR + 5)]
    bench = Bench(*names)
    for _ in range(12):
        bench.step(1.0)
    assert len(asked(bench, "order")) == ORDERS_AN_HOUR
    assert sum(1 for each in bench.workers.names.values() if each.pair) == ORDERS_AN_HOUR
    bench.restart()
    bench.step(60.0)
    assert len(asked(bench, "order")) == ORDERS_AN_HOUR, "the budget outlives a restart"
    bench.now = START + 3601.0
    for _ in range(12):
        bench.step(1.0)
    assert sum(1 for each in bench.workers.names.values() if each.pair) == len(names)
    assert len(set(asked(bench, "order"))) == len(names), "nothing twice"


def test_a_certificate_is_renewed_with_a_new_key_and_serves_until_then() -> None:
    bench = Bench(A)
    renewal = bench.until_waiting(A).next_at
    first = bench.workers.names[A].pair
    assert first is not None
    bench.now = renewal - 10
    bench.step()
    assert len(asked(bench, "order")) == 1
    bench.ca.invalid = "no (connection)"
    bench.now = renewal
    for _ in range(5):
        bench.step(1)
    failed = bench.workers.names[A]
    assert (failed.order.failures, failed.pair) == (1, first)
    bench.ca.invalid, bench.now = "", failed.order.next_at
    for _ in range(8):
        bench.step(1)
    renewed = bench.workers.names[A].pair
    assert renewed is not None
    assert renewed.key != first.key
    assert bench.ca.renewed == first.chain, "which the CA learns"


def test_a_bug_in_one_order_is_no_other_names_business() -> None:
    bench = Bench(A, "b.test")
    bench.ca.crash = ZeroDivisionError()
    with messages() as logged:
        bench.step()
    assert "bug in the order for a.test" in logged[-1] or any("bug in the order for a.test" in each for each in logged)
    bench.ca.crash = None
    assert bench.workers.names[A].order.failure == "a bug of mcproxy: its log has the traceback"
    bench.keeper.renew("b.test")
    assert bench.until_waiting("b.test").failures in {0, 1}


@pytest.mark.parametrize(("lifetime", "share"), [(90 * DAY, 2 / 3), (45 * DAY, 2 / 3), (160 * 3600.0, 1 / 2)])
def test_what_is_short_lived_is_renewed_earlier(lifetime: float, share: float) -> None:
    bench = Bench(A, lifetime=lifetime)
    assert bench.until_waiting(A).next_at == pytest.approx(START + lifetime * (share - 0.015), abs=60)


def test_the_ca_may_say_when_to_renew() -> None:
    bench = Bench(A)
    bench.ca.window = (START + 10 * DAY, START + 12 * DAY, 3600.0)
    bench.until_waiting(A)
    bench.step(1)
    assert bench.workers.names[A].order.next_at == START + 11 * DAY
    bench.step(3000)
    assert len(asked(bench, "renewal")) == 1
    bench.step(700)
    bench.restart()
    bench.step(1)
    assert len(asked(bench, "renewal")) == 3
    assert bench.rows.log.count("a.test waiting") == 2, "what is within the window stays"
    bench.ca.window = (START - DAY, START - 1, 0.0)  # it was revoked, say
    bench.now += 3600
    for _ in range(8):
        bench.step(1)
    assert len(asked(bench, "order")) == 1, "but not on the day that it was issued"
    bench.now = START + DAY + 3600
    for _ in range(8):
        bench.step(1)
    assert len(asked(bench, "order")) == 2
    for _ in range(8):
        bench.step(1)
    assert len(asked(bench, "order")) == 2, "a CA that says so of a new one too gets no loop of orders"


def test_a_ca_that_does_not_answer_when_to_renew_stops_nothing() -> None:
    bench = Bench(A)
    bench.ca.refuse["renewal"] = [AWAY]
    bench.until_waiting(A)
    bench.step(1)
    assert bench.rows.accounts[DIRECTORY].failures == 0
    assert bench.step(1) > 1


def test_an_operator_may_bring_it_forward() -> None:
    bench = Bench(A)
    bench.ca.invalid = "no (connection)"
    bench.until_waiting(A)
    bench.ca.invalid = ""
    bench.keeper.renew(A)
    bench.keeper.renew("unknown.test")
    for _ in range(8):
        bench.step(1)
    assert bench.workers.names[A].pair is not None


def test_a_chain_for_another_name_is_not_taken() -> None:
    bench = Bench(A)
    bench.ca.issued_for = "b.test"
    order = bench.until_waiting(A)
    assert order.failure.startswith(
        "the CA's certificate can't be used: the certificate of a.test from ACME is for b.test"
    )
    assert bench.rows.pairs == {}
    bench.ca.junk = b"junk"
    bench.now = order.next_at
    bench.step()
    for _ in range(6):
        bench.step(1)
    assert "holds no certificate chain in PEM form" in bench.workers.names[A].order.failure


def test_names_follow_the_table() -> None:
    bench = Bench(A, "b.test")
    bench.until_waiting(A)
    bench.until_waiting("b.test")
    bench.table = table("b.test", "c.test", generation=2)
    bench.step(1)
    assert set(bench.workers.names) == {"b.test", "c.test"}
    assert set(bench.rows.order_rows) == {"b.test", "c.test"}
    bench.table = table(A, generation=3)
    bench.step(1)
    assert bench.workers.names[A].pair is not None, "what was ordered is found again"
    assert len(asked(bench, "order")) == 3


def test_a_name_that_is_removed_while_its_order_is_under_way_is_answered_no_more() -> None:
    bench = Bench(A)
    bench.step()
    bench.step(1)
    assert bench.workers.names[A].challenge is not None
    bench.table = table(generation=2)
    bench.step(1)
    assert (bench.workers.names, bench.rows.order_rows) == ({}, {})
    looks = len(asked(bench, "look"))
    bench.step(60)
    assert len(asked(bench, "look")) == looks, "nobody goes on with it"
    bench.table = table(A, generation=3)
    assert bench.until_waiting(A).failures == 0


def test_without_a_section_or_the_library_the_words_say_so() -> None:
    bench = Bench(A)
    bench.settings = None
    bench.restart().step()
    assert bench.workers.names[A].words == keeper.NO_SECTION
    bench.keeper.configure(CaSettings(DIRECTORY))
    bench.until_waiting(A)

    def lacking(*_: object) -> StubCA:
        raise ImportError

    bench.table = table("b.test")
    broken = keeper.Keeper(bench.rows, bench.workers, lambda: bench.table, CaSettings(DIRECTORY), lacking)
    broken.step()
    assert bench.workers.names["b.test"].words == keeper.INSTALL


OTHER = "https://other.test/dir"


def test_another_ca_gets_an_order_of_its_own() -> None:
    bench = Bench(A)
    bench.step()
    bench.keeper.configure(CaSettings(OTHER))
    bench.until_waiting(A)
    assert len(asked(bench, "order")) == 2
    assert set(bench.rows.accounts) == {DIRECTORY, OTHER}


@pytest.mark.parametrize("restarted", [False, True])
def test_certificates_of_another_ca_are_replaced_at_once(restarted: bool) -> None:
    """One of a CA for trials, which no client trusts, stayed in use until its renewal, after 60 days."""
    bench = Bench(A)
    bench.until_waiting(A)
    first = bench.workers.names[A].pair
    bench.settings = CaSettings(OTHER)
    if restarted:
        bench.restart()
    else:
        bench.keeper.configure(bench.settings)
    bench.step(1)
    assert bench.workers.names[A].pair == first, "which serves meanwhile"
    for _ in range(8):
        bench.step(1)
    assert bench.workers.names[A].pair != first
    assert bench.ca.renewed is None, "which the other CA doesn't know"
    bench.restart()
    bench.step(1)
    assert len(asked(bench, "order")) == 2, "once"


def test_a_directory_that_is_changed_and_changed_back_orders_nothing() -> None:
    """A typo, put right a moment later, had every certificate ordered again."""
    bench = Bench(A)
    renewal = bench.until_waiting(A).next_at
    bench.ca.refuse["register"] = [AWAY]
    bench.keeper.configure(CaSettings(OTHER))
    bench.step(1)
    assert len(asked(bench, "register")) == 2, "the other CA was asked"
    bench.keeper.configure(CaSettings(DIRECTORY))
    for _ in range(3):
        bench.step(60)
    assert len(asked(bench, "order")) == 1
    assert bench.workers.names[A].order.next_at == renewal


def test_the_budget_is_named_while_an_order_waits_for_it() -> None:
    """Its order was said to begin soon, or to be due at some time, without a reason."""
    names = [f"n{number:02}.test" for number in range(ORDERS_AN_HOUR + 2)]
    bench = Bench(*names)
    for _ in range(12):
        bench.step(1)
    kept = bench.workers.names[names[-1]]
    assert kept.words.startswith(
        "60 orders have begun within an hour, as many as mcproxy makes; the next one begins at "
    )
    assert bench.workers.names[names[0]].hindrance(bench.now) == "", "nothing of it is due"
    assert 1 < bench.step() <= 30, "and nobody asks again and again"
    bench.keeper.renew(names[0])
    bench.step()
    assert bench.workers.names[names[0]].hindrance(bench.now) == kept.words
    bench.now = START + 3700
    for _ in range(12):
        bench.step(1)
    assert {each.obstacle for each in bench.workers.names.values()} == {""}


def test_a_section_that_is_removed_is_warned_of_once_and_no_try_comes_next() -> None:
    bench = Bench(A)
    bench.ca.invalid = "no route (connection)"
    bench.until_waiting(A)
    with messages() as logged:
        bench.keeper.configure(None)
        bench.step(1)
        bench.step(1)
    assert logged == [f"warning 1 certificate neither ordered nor renewed: {keeper.NO_SECTION}"]
    kept = bench.workers.names[A]
    assert kept.words == f"{keeper.NO_SECTION}; the last order failed: no route (connection)"
    bench.keeper.configure(CaSettings(DIRECTORY))
    bench.step(1)
    assert bench.workers.names[A].obstacle == "", "though nothing is due for which the CA would be asked"


def test_questions_when_to_renew_do_not_keep_orders_waiting() -> None:
    names = [f"n{number}.test" for number in range(keeper.QUESTIONS + 5)]
    bench = Bench(*names)
    for _ in range(12):
        bench.step(1)
    assert all(each.pair for each in bench.workers.names.values())
    bench.restart()
    bench.ca.calls.clear()
    bench.keeper.renew(names[-1])
    bench.step()
    assert bench.ca.calls[0] == f"order {names[-1]}"
    assert len(asked(bench, "renewal")) == keeper.QUESTIONS
    assert bench.step() < 1
    assert len(asked(bench, "renewal")) == len(names) - 1


def test_a_ca_that_does_not_answer_when_to_renew_is_not_asked_for_each_name() -> None:
    bench = Bench(A, "b.test", "c.test")
    bench.ca.refuse["renewal"] = [AWAY]
    for _ in range(12):
        bench.step(1)
    assert len(asked(bench, "renewal")) == 1
    assert len(asked(bench, "order")) == 3
    bench.step(3600)
    assert len(asked(bench, "renewal")) == 4


def test_a_certificate_that_could_not_be_stored_is_taken_once_there_is_room() -> None:
    bench = Bench(A)

    def fill(method: str) -> None:
        bench.rows.fail = NotDurable("the disk is full") if method == "download" else None

    bench.ca.on_call = fill
    for _ in range(12):
        with suppress(NotDurable):
            bench.step(1)
    assert bench.workers.names[A].pair is None
    bench.ca.on_call = lambda _method: None
    bench.rows.fail = None
    for _ in range(8):
        bench.step(1)
    assert bench.workers.names[A].pair is not None
    assert len(asked(bench, "order")) == 1


def test_files_are_adopted_until_there_is_a_certificate(authority: Authority) -> None:
    bench = Bench()
    chain, key = map(str, authority.pair(A))
    bench.keeper.adopt(Route(A, Backend("127.0.0.1", 1), Mode.L7, chain, key))
    adopted = bench.workers.names[A].pair
    assert adopted is not None, "before the route changes"
    bench.table = table(A)
    bench.restart()
    assert bench.workers.names[A].pair is not None
    for _ in range(8):
        bench.step(1)
    kept = bench.workers.names[A]
    assert kept.certificate is not None
    assert kept.certificate.issuer == "Stub CA"
    bench.keeper.adopt(Route(A, Backend("127.0.0.1", 1), Mode.L7, chain, key))
    assert bench.rows.pairs[A] == kept.pair, "what ACME brought is not replaced"
    with messages() as logged:
        bench.keeper.adopt(Route("b.test", Backend("127.0.0.1", 1), Mode.L7, "/absent.pem", key))
    assert logged[0].startswith("warning b.test: its files can't be served until ACME has brought a certificate: ")


def test_a_certificate_that_has_expired_does_not_keep_files_from_being_adopted(authority: Authority) -> None:
    bench = Bench(A)
    bench.until_waiting(A)
    old = bench.rows.pairs[A]
    bench.table = table(generation=2)
    bench.step()
    chain, key = map(str, authority.pair(A))
    files = Route(A, Backend("127.0.0.1", 1), Mode.L7, chain, key)
    bench.keeper.adopt(files)
    assert bench.rows.pairs[A] == old, "it is valid"
    bench.now += 91 * DAY
    bench.keeper.adopt(files)
    assert bench.rows.pairs[A] != old
    bench.table = table(A, generation=3)
    bench.step()
    assert asked(bench, "order") == ["order a.test"] * 2, "and a certificate is ordered at once"


def test_an_answer_that_could_not_be_written_is_a_failed_try() -> None:
    """Else the next step would order again, every few seconds, for as long as the disk is full."""
    bench = Bench(A)

    def fill(method: str) -> None:
        if method == "order":
            bench.rows.fail = NotDurable("the disk is full")

    bench.ca.on_call = fill
    with pytest.raises(NotDurable):
        bench.step()
    bench.rows.fail = None
    bench.step()
    assert (bench.workers.names[A].order.failure, len(asked(bench, "order"))) == (keeper.CUT_OFF, 1)


def test_many_tables_in_a_row_are_followed_in_one_turn() -> None:
    """Going through 100,000 routes takes 16 ms, in which other threads wait."""
    bench = Bench(A)
    ticks = iter(range(1000))
    slow = keeper.Keeper(
        bench.rows, bench.workers, lambda: bench.table, None, lambda *_: bench.ca, lambda: START + next(ticks)
    )
    slow.step()
    bench.table = table(A, "b.test", generation=2)
    assert 0 < slow.step() <= 30
    assert set(bench.workers.names) == {A}
    for _ in range(200):
        slow.step()
    assert set(bench.workers.names) == {A, "b.test"}


def test_the_thread_outlives_a_disk_that_is_full() -> None:
    bench = Bench(A)
    bench.rows.fail = NotDurable("the disk is full")
    with messages() as logged:
        bench.keeper.start()
        until(lambda: logged, "its words")
        bench.keeper.close()
    assert logged[0] == "error no certificate can be ordered, next try in 5 s: the disk is full"
    assert logging.getLogger("mcproxy").level <= logging.ERROR
