"""The words beside a status are the registry's, whatever Python's version."""

from http import HTTPStatus

import pytest

from mcproxy.wire.phrases import phrase

RENAMED = {413, 414, 416, 422}  # by RFC 9110, and in http.HTTPStatus since Python 3.13


def test_the_words_are_the_standard_librarys() -> None:
    shared = [status for status in HTTPStatus if phrase(status) and status not in RENAMED]
    assert len(shared) >= 57, "those of Python 3.11"
    assert [phrase(status) for status in shared] == [status.phrase.encode() for status in shared]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (413, b"Content Too Large"),
        (414, b"URI Too Long"),
        (416, b"Range Not Satisfiable"),
        (422, b"Unprocessable Content"),
        (418, b""),  # reserved, so that nobody uses it (RFC 9110, 15.5.19)
        (599, b""),
        (799, b""),
    ],
)
def test_no_version_of_python_changes_them(status: int, words: bytes) -> None:
    assert phrase(status) == words
