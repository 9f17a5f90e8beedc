"""Tables on narrow terminals: no value is broken, ever."""

import pytest

from mcproxy.cli.columns import Column, lay_out

COLUMNS = (Column("ID"), Column("LISTENER", rank=2), Column("HOST"), Column("BACKEND", rank=1), Column("SENT"))
ROWS = [
    ("7", "127.0.0.1:8443", "git.example.org", "127.0.0.1:3000", "1.5 kB"),
    ("12345", "127.0.0.1:8443", "a-name-that-is-rather-long.example.org", "unix:/run/somewhere/mail.sock", "999 B"),
]


def test_what_fits_is_shown_as_it_is() -> None:
    assert lay_out(COLUMNS[:2], [row[:2] for row in ROWS], 80) == [
        "   ID  LISTENER",
        "    7  127.0.0.1:8443",
        "12345  127.0.0.1:8443",
    ]


def test_names_are_elided_and_numbers_are_not() -> None:
    assert lay_out(COLUMNS, ROWS, 80) == [
        "   ID  LISTENER        HOST                     BACKEND                     SENT",
        "    7  127.0.0.1:8443  git.example.org          127.0.0.1:3000            1.5 kB",
        "12345  127.0.0.1:8443  a-name-that-is-rather-…  unix:/run/somewhere/mai…   999 B",
    ]


def test_the_least_important_column_is_left_out_first() -> None:
    assert lay_out(COLUMNS, ROWS, 60)[0].split() == ["ID", "HOST", "BACKEND", "SENT"]
    assert lay_out(COLUMNS, ROWS, 40) == [
        "   ID  HOST                         SENT",
        "    7  git.example.org            1.5 kB",
        "12345  a-name-that-is-rather-lo…   999 B",
    ]


@pytest.mark.parametrize("width", range(1, 120))
def test_no_line_is_longer_than_it_must_be(width: int) -> None:
    lines = lay_out(COLUMNS, ROWS, width)
    assert len(lines) == 3
    assert max(map(len, lines)) <= max(width, len("12345  a-name-that-is-r…  1.5 kB"))


def test_sentences_wrap_between_words_before_names_are_elided() -> None:
    step = ("firewall cidr", "REFUSE", "192.0.2.7 is blocked by 192.0.2.0/24 until 2026-11-22 05:11:34Z")
    columns = (Column("STEP"), Column("OUTCOME"), Column("DETAIL", prose=True))
    assert lay_out(columns, [step], 60) == [
        "STEP           OUTCOME  DETAIL",
        "firewall cidr  REFUSE   192.0.2.7 is blocked by 192.0.2.0/24",
        "                        until 2026-11-22 05:11:34Z",
    ]


def test_a_word_that_is_longer_than_its_column_stays_whole() -> None:
    path = "/srv/mcproxy/certificates/www.example.org.pem"
    lines = lay_out((Column("STEP"), Column("DETAIL", prose=True)), [("files", f"{path} is unreadable")], 30)
    assert lines[1].endswith(path)


def test_moments_are_whole() -> None:
    moment = "2026-11-22 05:11:34Z"
    assert lay_out([Column("WHAT"), Column("WHEN")], [("a" * 30, moment), ("b", "-")], 20)[1].endswith(f"  {moment}")


def test_columns_of_numbers_and_lengths_of_time_are_aligned_to_the_right() -> None:
    rows = [("1", "4d", "1.0 GB", "192.0.2.1"), ("-", "1m10s", "0 B", "10.0.0.1")]
    assert lay_out([Column(name) for name in "NATI"], rows, 80) == [
        "N      A       T  I",
        "1     4d  1.0 GB  192.0.2.1",
        "-  1m10s     0 B  10.0.0.1",
    ]


def test_wide_characters_take_two_columns() -> None:
    assert lay_out([Column("A", least=3), Column("B")], [("漢字漢字", "x")], 8) == ["A      B", "漢字…  x"]


def test_names_wrap_between_them_and_none_is_broken_off_where_it_fits() -> None:
    """At 80 columns the history had "root on ed..." for who, and "a.example.org o..." for what."""
    columns = [Column("WHO", least=10, wraps=True), Column("CHANGE", least=15, prose=True)]
    rows = [["root on edge1", "backend=127.0.0.1:2, mode=l4"], ["a-long-name on edge2", "mode=l7"]]
    assert lay_out(columns, rows, 27) == [
        "WHO         CHANGE",
        "root on     backend=127.0.0.1:2,",
        "edge1       mode=l4",
        "a-long-na…  mode=l7",
        "on edge2",
    ]
