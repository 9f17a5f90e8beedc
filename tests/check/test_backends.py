"""What backends speak, each with its place."""

from mcproxy.check.backends import look_at_backends
from mcproxy.check.loaded import load
from tests.check.conftest import Parse, l7_route
from tests.kit.peers import free_port


def test_a_backend_that_is_down_is_a_warning_and_l4_is_not_asked(parse: Parse) -> None:
    down = f"127.0.0.1:{free_port()}"
    asked = l7_route("a.pem", "a.key") | {"backend": down}
    plain = {"hostname": "plain.test", "backend": down}
    loaded, _ = load(parse({"listeners": [{"addr": "127.0.0.1:0", "routes": [plain, asked]}]}))
    assert loaded is not None
    (heard,) = look_at_backends(loaded)
    assert (heard.place, heard.said) == ("listeners[0].routes[1].backend", "")
    assert heard.found is not None
    assert not heard.found.serious
    assert f"{down}: Connection refused" in heard.found.message
