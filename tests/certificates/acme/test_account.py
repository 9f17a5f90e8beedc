"""The account at a CA, by what the keeper does with it."""

from mcproxy.certificates.acme.contract import CaSettings, Refusal
from mcproxy.certificates.acme.order import State
from tests.kit.acme_stub import AWAY, DIRECTORY, Bench, asked
from tests.kit.hub import messages

A = "a.test"


def test_a_ca_that_is_away_uses_up_no_tries_and_is_left_alone() -> None:
    bench = Bench(A, "b.test", "c.test")
    bench.ca.refuse["register"] = [AWAY] * 3
    bench.step()
    assert bench.ca.calls == ["register"], "one try, not one a name"
    assert bench.workers.names["b.test"].words.startswith("the CA can't be asked: Connection refused; next try at ")
    bench.step(5)
    bench.restart()
    bench.step(5)
    assert bench.ca.calls == ["register"], "after a restart neither"
    bench.step(10)
    bench.step(40)
    assert len(bench.ca.calls) == 3
    for name in (A, "b.test", "c.test"):
        bench.now += 70
        assert bench.until_waiting(name).failures == 0
    assert bench.rows.accounts[DIRECTORY].failures == 0


def test_an_account_that_is_unknown_or_revoked_is_replaced() -> None:
    bench = Bench(A)
    bench.ca.refuse["order"] = [
        Refusal("no such account (accountDoesNotExist)", "accountDoesNotExist", whole=True),
        Refusal("account is deactivated (unauthorized)", "unauthorized"),
    ]
    bench.step()
    key = bench.rows.accounts[DIRECTORY].key
    bench.ca.account_is_valid = False
    bench.step(20)
    bench.ca.account_is_valid = True
    assert len(asked(bench, "register")) == 2
    assert bench.rows.accounts[DIRECTORY].key != key, "of one that is revoked, the key is of no use"
    bench.now += 60
    assert bench.until_waiting(A).failures == 0
    assert len(asked(bench, "register")) == 3


def test_an_order_of_an_account_that_is_gone_is_made_again_and_is_no_failed_try() -> None:
    bench = Bench(A)
    bench.step()
    bench.ca.account_is_valid = False
    bench.ca.refuse["look"] = [Refusal("account is deactivated (unauthorized)", "unauthorized")]
    bench.step(1)
    assert (bench.workers.names[A].order.state, bench.workers.names[A].order.failures) == (State.WAITING, 0)
    bench.now += 20
    assert bench.until_waiting(A).failures == 0
    assert len(asked(bench, "order")) == len(asked(bench, "register")) == 2


def test_a_name_that_the_ca_refuses_costs_no_account() -> None:
    bench = Bench(A, "b.test")
    bench.ca.refuse["order"] = [Refusal("not your name (unauthorized)", "unauthorized")]
    bench.step()
    assert bench.workers.names[A].order.failure == "not your name (unauthorized)"
    assert bench.until_waiting("b.test").failures == 0
    assert len(asked(bench, "register")) == 1


def test_no_name_is_at_fault_where_no_account_can_be_made() -> None:
    """A CA may limit accounts, too: each name asked for one, and each had failed."""
    bench = Bench(A, "b.test")
    bench.ca.refuse["register"] = [Refusal("too many registrations (rateLimited)", "rateLimited")]
    bench.step()
    bench.step(3599)
    assert bench.ca.calls == ["register"]
    assert [each.order.failures for each in bench.workers.names.values()] == [0, 0]
    assert bench.workers.names["b.test"].words.startswith("too many registrations (rateLimited); next try at ")


def test_the_ca_gets_an_address_that_has_changed_and_may_refuse_it() -> None:
    bench = Bench(A)
    bench.settings = CaSettings(DIRECTORY, "one@example.org")
    bench.restart()
    bench.until_waiting(A)
    assert not asked(bench, "write_to"), "it is part of the registration"
    bench.ca.refuse["write_to"] = [Refusal("no such domain (invalidContact)", "invalidContact", whole=True)]
    bench.keeper.configure(CaSettings(DIRECTORY, "two@example.org"))
    bench.keeper.renew(A)
    with messages() as logged:
        for _ in range(8):
            bench.step(1)
    assert asked(bench, "write_to") == ["write_to two@example.org"]
    assert "warning acme.email: the CA refuses two@example.org: no such domain (invalidContact)" in logged
    assert len(asked(bench, "download")) == 2
