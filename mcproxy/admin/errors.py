"""Refusals of the admin API. Each message is one sentence for an operator; `STATUS` gives each its gRPC status."""

import errno
from collections.abc import Mapping, Sequence
from typing import Final

import grpc

from mcproxy.change import Key
from mcproxy.messages import PlaneBusy
from mcproxy.store.errors import Conflict, Exists, StoreError

MAX_DETAILS = 3_000  # bytes of problems in one answer: gRPC's clients refuse trailers of more than 8 kB, coded


class Refusal(Exception):
    """The call is refused; nothing has changed."""

    def __init__(self, message: str, about: str = "") -> None:
        """`about` is for programs: the path of the field, or the kind of value."""
        super().__init__(message)
        self.about = about


class InvalidField(Refusal):
    """Bad input: "FIELD: what is wrong"."""

    def __init__(self, field: str, problem: object) -> None:
        super().__init__(f"{field}: {problem}", field)
        self.problem = str(problem)


class InvalidFields(Refusal):
    """Several fields are invalid: a line for each."""

    def __init__(self, problems: Sequence[InvalidField]) -> None:
        shown, size = list[str](), 0
        for problem in map(str, problems):
            size += len(problem.encode()) + 1
            if shown and size > MAX_DETAILS:
                shown.append(f"and {len(problems) - len(shown)} more")
                break
            shown.append(problem)
        super().__init__("\n".join(shown))


class AlreadyThere(Refusal):
    """The value to be added exists."""


class NotThere(Refusal):
    """The value doesn't exist."""

    def __init__(self, message: str, key: Key | None = None) -> None:
        """`key` is the listener's, the route's or the rule's, where it is one of these."""
        super().__init__(message, key.what if key else "")
        self.key = key


class Overtaken(Refusal):
    """Another mutation came first."""


class TooMany(Refusal):
    """A bound is reached."""


class Unready(Refusal):
    """Something outside doesn't allow it: an address in use, no GeoIP database, a broken file."""


class Starting(Refusal):
    """The server has not finished its start."""


class Busy(Refusal):
    """Other mutations took all the time that the caller has."""


# The first class that an exception is an instance of counts.
STATUS: Final[Mapping[type[Exception], grpc.StatusCode]] = {
    InvalidField: grpc.StatusCode.INVALID_ARGUMENT,
    InvalidFields: grpc.StatusCode.INVALID_ARGUMENT,
    AlreadyThere: grpc.StatusCode.ALREADY_EXISTS,
    NotThere: grpc.StatusCode.NOT_FOUND,
    Overtaken: grpc.StatusCode.ABORTED,
    TooMany: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unready: grpc.StatusCode.FAILED_PRECONDITION,
    Starting: grpc.StatusCode.UNAVAILABLE,
    Busy: grpc.StatusCode.DEADLINE_EXCEEDED,
    Exists: grpc.StatusCode.ALREADY_EXISTS,
    Conflict: grpc.StatusCode.ABORTED,
    StoreError: grpc.StatusCode.UNAVAILABLE,
    PlaneBusy: grpc.StatusCode.UNAVAILABLE,
}


def bind_failure(addr: str, error: OSError) -> str:
    """Why an address can't be listened on, in the words of the start and of the admin API."""
    remedy = {
        errno.EADDRINUSE: "another program listens there",
        errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE",
        errno.EADDRNOTAVAIL: "this machine has no such address",
    }
    hint = remedy.get(error.errno or 0)
    return f"can't listen on {addr}: {hint or error.strerror or error}"
