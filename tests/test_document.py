"""A TOML file: what is read, and for what is not TOML the line and the remedy."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mcproxy.document import MAX_DOCUMENT, NotADocument, read_document


def refusal(folder: Path, data: str | bytes) -> str:
    path = folder / "a.toml"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(NotADocument) as caught:
        read_document(path)
    return str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b'a = "\xc3\xbc"', b'\xef\xbb\xbfa = "\xc3\xbc"', b'a = "\xc3\xbc"\r\n', b'\ta\t=\t"\xc3\xbc"\t# x\r\n\r\n'],
    ids=["plain", "mark of Windows", "line ends of Windows", "tabs"],
)
def test_what_editors_make_of_a_file_is_read(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.toml").write_bytes(data)
    assert read_document(tmp_path / "a.toml") == {"a": "ü"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named(tmp_path: Path, encoding: str) -> None:
    assert "is UTF-16, as some editors of Windows write it; save it as UTF-8" in refusal(
        tmp_path, "a = 1".encode(encoding)
    )


def test_latin_1_is_shown_by_its_line(tmp_path: Path) -> None:
    assert refusal(tmp_path, b'[a]\nb = "\xfc"') == "line 2: is not UTF-8 (byte 9); save it as UTF-8"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "a = b",
            'line 1, column 5: is not TOML: no value can be read here; put text in quotes, as in KEY = "TEXT"',
        ),
        ("a = ", "line 1, at the end of the file: is not TOML: no value"),
        (
            '[database]\nurl = "postgresql://ann:s3cret@db.test/x"x',
            'and a comment begins with #: url = "postgresql://...',
        ),
        ("x = 1\na : 1", "line 2, column 3: is not TOML: a line is KEY = VALUE; the = is missing: a : 1"),
        ("a", "is not TOML: a line is KEY = VALUE; the = is missing: a"),
        ('a = "b', 'is not TOML: the string isn\'t closed; end it with ": a = "b'),
        ('a = "b\nc = 1', 'line 1, column 7: is not TOML: the string isn\'t closed on its line; end it with ": a = "b'),
        ("a = 'b\nc = 1", "line 2, at the end of the file: is not TOML: the string isn't closed; end it with '"),
        ('a = """b', "the string isn't closed"),
        ("a = '''b", "the string isn't closed; end it with '''"),
        ("a = \u201cb\u201d", 'these quotes are curly; write straight ones: "'),
        ('a = "C:\\certs"', "a backslash must be doubled"),
        ('a = "\\u12"', "hexadecimal digits must follow"),
        ('a = "\\ud800"', "there is no such character"),
        ("a = [1, 2", "the array isn't closed"),
        ("a = [1 2]", "separate its values with commas"),
        ("a = {b = 1", "the table isn't closed"),
        ("a = {b = 1, b = 2}", "a key is in this table twice; remove one of the two"),
        (
            "a = 1\na = 2",
            "line 2, at the end of the file: is not TOML: this is set twice; remove one of the two",
        ),
        (
            "[a]\nx = 1\n[a]",
            "line 3, column 3: is not TOML: this table is in the file twice; put its keys under one header",
        ),
        ("a = 1\n[a]", "this is set twice"),
        ("a = {b = 1}\n[a]", "is not TOML: this table"),
        ("a = [1]\n[[a]]", "this table is complete already"),
        ("[a.b]\n[a]\nb.c = 1", "this table is complete already"),
        ("[a", "the header of this table isn't closed; end it with ]: [a"),
        ("[[a]", "the header of this table isn't closed; end it with ]]: [[a]"),
        ("a = 1 b = 2", "something follows the value"),
        ("a = 5 s", "something follows the value; put text in quotes"),
        ("a = :443", "put text in quotes"),
        ("= 1", "write KEY = VALUE"),
        ("[]", "the name of a key or table is missing here"),
        ("b\u00fccher = 1", "is not TOML: "),
        ("a = 2024-02-31", "there is no such date"),
        ('a = "\x01"', "control character"),
        ("# \x01", "control character"),
        ("a = 1\rb = 2", "is not TOML: "),
        ("a = " + "9" * 5000, "is not TOML: "),
        ("a = " + "[" * 5000, "nested too deeply"),
    ],
)
def test_what_is_not_toml(tmp_path: Path, text: str, told: str) -> None:
    sentence = refusal(tmp_path, text)
    assert told in sentence
    for insider in ("\\n'", "namespace", "Unterminated", "Illegal", "scalar", "('"):
        assert insider not in sentence


def test_a_line_can_not_command_a_terminal(tmp_path: Path) -> None:
    """The line that is at fault is shown; it was shown as it is, with escape sequences that a terminal obeys."""
    assert refusal(tmp_path, b"[a\x1b[2J\x07b").endswith(r": [a\x1b[2J\x07b")


def test_a_long_line_is_cut(tmp_path: Path) -> None:
    assert refusal(tmp_path, "a = b" + "x" * 1000).endswith("a = b" + "x" * 75 + "...")


def test_a_file_far_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    with path.open("wb") as file:
        file.truncate(MAX_DOCUMENT + 1)
    with pytest.raises(NotADocument, match="is larger than 64 MiB; is this the right file"):
        read_document(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotADocument, match="can't be read: No such file or directory"):
        read_document(tmp_path / "none.toml")


def test_a_file_that_hangs_has_a_deadline(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    os.mkfifo(path)
    with pytest.raises(NotADocument, match=r"can't be read: it has not answered in 0\.\d s; keep it on a local disk"):
        read_document(path, 0.1)
    with path.open("w"):  # and the thread that reads it ends
        pass


def test_what_a_shell_connects_may_take_its_time(tmp_path: Path) -> None:
    """`mcproxy export | ssh there mcproxy apply -`, where somebody types a password first."""
    ours, theirs = os.pipe()
    with ThreadPoolExecutor(1) as pool, os.fdopen(ours), os.fdopen(theirs, "w") as pipe:
        reading = pool.submit(read_document, Path(f"/dev/fd/{ours}"), 0.01)
        with pytest.raises(TimeoutError):
            reading.result(0.1)
        pipe.write("a = 1")
        pipe.close()
        assert reading.result() == {"a": 1}
