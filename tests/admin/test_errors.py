import grpc
import pytest

from mcproxy.admin import errors
from mcproxy.store.errors import Conflict, Exists, StoreError, Unavailable


def status(error: Exception) -> grpc.StatusCode:
    return next(code for kind, code in errors.STATUS.items() if isinstance(error, kind))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidField("route.hostname", "is empty"), grpc.StatusCode.INVALID_ARGUMENT),
        (Exists("a"), grpc.StatusCode.ALREADY_EXISTS),
        (Conflict("a"), grpc.StatusCode.ABORTED),
        (Unavailable("a"), grpc.StatusCode.UNAVAILABLE),
        (StoreError("a"), grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_the_most_exact_status_counts(error: Exception, code: grpc.StatusCode) -> None:
    assert status(error) is code


def test_every_refusal_has_a_status() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Refusal)]
    without = [kind for kind in kinds if not set(kind.mro()[: kind.mro().index(errors.Refusal)]) & set(errors.STATUS)]
    assert without == [errors.Refusal], "of its own, or by what it is a case of"


def test_a_bad_field_is_named_first() -> None:
    assert str(errors.InvalidField("ttl_seconds", "is negative")) == "ttl_seconds: is negative"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(98, "Address already in use (while attempting to bind)"), "another program listens there"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (OSError("odd"), "odd"),
    ],
)
def test_an_address_that_can_not_be_had_has_the_words_of_the_start(error: OSError, words: str) -> None:
    assert errors.bind_failure(":443", error) == f"can't listen on :443: {words}"


def test_many_problems_are_a_line_each_and_have_a_bound() -> None:
    few = [errors.InvalidField(f"routes[{i}].backend", "has no port") for i in range(3)]
    assert str(errors.InvalidFields(few)).splitlines() == [str(each) for each in few]
    many = str(errors.InvalidFields(few * 100))
    assert len(many) < errors.MAX_DETAILS + 100
    assert many.endswith(" more")
    assert len(many.splitlines()) - 1 + int(many.split()[-2]) == 300
