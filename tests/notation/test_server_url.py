import pytest

from mcproxy.notation.server_url import masked, parse_server_url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ann@db.test/x", "postgresql://ann@db.test/x"),
        ("postgresql://ann:s3cret@db.test:5432/x", "postgresql://ann:***@db.test:5432/x"),
        ("postgres://ann:s3c%40ret@db.test/x", "postgres://ann:***@db.test/x"),
        ("postgresql://h/x?passwort=s3cret&sslmode=require", "postgresql://h/x?passwort=***&sslmode=require"),
        ("postgresql://h/x?passfile=/a@b", "postgresql://h/x?passfile=/a@b"),
        ("postgresql://%2Frun%2Fpg/x", "postgresql://%2Frun%2Fpg/x"),
        ("postgresql://:s3cret@db.test/x", "postgresql://:***@db.test/x"),
        ("postgresql://h1:1,h2:2/x?target_session_attrs=any", "postgresql://h1:1,h2:2/x?target_session_attrs=any"),
        ("postgresql:///x?host=/run/pg&password=s3cret", "postgresql:///x?host=/run/pg&password=***"),
        ("postgresql://h/x?sslpassword=s3cret&a=b", "postgresql://h/x?sslpassword=***&a=***"),
        ("postgresql://[::1]:5432/x", "postgresql://[::1]:5432/x"),
    ],
)
def test_a_url_is_shown_without_passwords(text: str, shown: str) -> None:
    url = parse_server_url(text)
    assert (str(url), url.secret) == (shown, text)
    assert "s3c" not in repr(url)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mysql://ann:s3cret@db.test/x", "must begin with"),
        ("s3cret", "must begin with"),
        ("postgresql://ann:s3 cret@db.test/x", "no spaces"),
        ("postgresql://ann:s3cret\n@db.test/x", "control characters"),
        ("postgresql://ann:s3cret%@db.test/x", "%25"),
        ("postgres://ann:s3c@ret@db.test/x", "%40"),
        ("postgresql://ann:s3/cret@db.test/x", "%2F"),
        ("postgresql://ann:s3?cret@db.test/x", "%3F"),
    ],
)
def test_what_is_no_url_is_refused_without_quoting_it(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_server_url(text)
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize("text", ["postgres://ann:s3c@ret@db.test/x", "postgresql://ann:s3/cret@db.test/x"])
def test_what_is_malformed_is_masked(text: str) -> None:
    assert "s3" not in masked(text)
    assert "cret" not in masked(text)
