from mcproxy.check.found import Found, warning


def test_what_is_found_is_one_line() -> None:
    assert str(Found("proxy.workers", "is wrong")) == "proxy.workers: is wrong"
    assert str(warning("", "all of it")) == "all of it"
    assert (Found("a", "b").serious, warning("a", "b").serious) == (True, False)
