"""What is kept of a failure: all that is said of it, and no frame."""

from mcproxy.model import Reason, Refused
from mcproxy.net.failures import without_frames


def raised(error: Exception) -> Exception:
    try:
        try:
            raise ConnectionRefusedError(111, "Connection refused")
        except OSError as cause:
            raise error from cause
    except Exception as found:  # noqa: BLE001 - any
        return found


def tracebacks(*errors: BaseException) -> list[object]:
    return [error.__traceback__ for error in errors if error.__traceback__ is not None]


def test_an_expected_failure_keeps_its_causes_and_no_frame() -> None:
    failure = raised(Refused(Reason.BACKEND_REFUSED, "no"))
    cause = failure.__cause__
    assert cause is not None
    assert len(tracebacks(failure, cause)) == 2
    assert without_frames(failure) is failure
    assert tracebacks(failure, cause) == []
    assert (str(failure), failure.__cause__) == ("backend_refused: no", cause)


def test_a_defect_keeps_its_traceback() -> None:
    assert without_frames(raised(ValueError("bug"))).__traceback__
