import pytest

from mcproxy.words import MAX_SHOWN, key_remedy, meant, moment, quoted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", '""'),
        ("it's", '"it\'s"'),
        ("bücher", '"bücher"'),
        ("a\nlevel=info", r'"a\nlevel=info"'),
        ("\x1b[31m", r'"\x1b[31m"'),
        ("\u202e\ud800", r'"\u202e\ud800"'),
        ("x" * 81, '"' + "x" * MAX_SHOWN + '"...'),
    ],
)
def test_a_text_is_quoted_as_people_do(text: str, shown: str) -> None:
    assert quoted(text) == shown


def test_a_moment_is_in_utc_to_the_second() -> None:
    assert moment(1_795_916_652.9) == "2026-11-29 01:44:12Z"
    assert moment(1e15) == "9999-12-31 23:59:59Z", "of a rule, say, that somebody has let expire in a wrong unit"


@pytest.mark.parametrize(
    ("word", "known"),
    [("lvel", "level"), ("Level", "level"), ("fromat", "format"), ("colour", ""), ("", ""), ("x" * 10_000, "")],
)
def test_the_word_that_was_meant(word: str, known: str) -> None:
    assert meant(word, ["level", "format"]) == known


def test_a_restart_is_advised_only_where_a_reload_can_not_do_it() -> None:
    """The log and `status` advised one that refuses clients, for keys that a reload starts a new process for."""
    assert all("restart" in key_remedy(key) for key in ("database", "database.path", "node.name"))
    assert not any("restart" in key_remedy(key) for key in ("proxy.workers", "grpc", "grpc.addr", "metrics.file"))
