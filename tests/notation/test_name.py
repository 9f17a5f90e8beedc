"""One form for every spelling of a name, and a reason for everything that is no name."""

import itertools
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcproxy.model import Reason
from mcproxy.notation.name import MAX_LABEL_BYTES, MAX_NAME_BYTES, InvalidName, normalise

LONGEST_LABEL = "a" * MAX_LABEL_BYTES
LONGEST_NAME = ".".join([LONGEST_LABEL] * 3 + ["b" * (MAX_NAME_BYTES - 3 * (MAX_LABEL_BYTES + 1))])


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("example.org", "example.org"),
        ("EXAMPLE.Org", "example.org"),
        ("example.org.", "example.org"),
        ("localhost", "localhost"),
        ("_dmarc.example.org", "_dmarc.example.org"),
        ("r3---sn-4g5e6n.example", "r3---sn-4g5e6n.example"),
        ("1.2.3.4.example", "1.2.3.4.example"),
        ("1e100", "1e100"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.Example.", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),  # a combining diaeresis
        ("faß.example", "xn--fa-hia.example"),  # IDNA 2008; IDNA 2003 had made it 'fass'
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),  # an ideographic full stop between labels
        ("ｅｘａｍｐｌｅ．org", "example.org"),  # fullwidth  # noqa: RUF001
        ("_srv.bücher.example", "_srv.xn--bcher-kva.example"),
        (LONGEST_LABEL + ".test", LONGEST_LABEL + ".test"),
        (LONGEST_NAME, LONGEST_NAME),
        (LONGEST_NAME + ".", LONGEST_NAME),
    ],
)
def test_every_spelling_has_one_form(name: str, normal: str) -> None:
    assert normalise(name) == normal
    assert normalise(normal) == normal


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "is empty"),
        (".", "is empty"),
        ("\u00ad", "is empty"),  # a soft hyphen, which UTS #46 drops
        ("..", "has an empty label"),
        (".example", "has an empty label"),
        ("a..example", "has an empty label"),
        ("example..", "has an empty label"),
        ("a" + LONGEST_LABEL + ".test", "has a label of 64 octets, more than 63"),
        ("b" + LONGEST_NAME, "is 254 octets long, more than 253"),
        ("a-." * 20_000 + "*", "is 60001 octets long, more than 253"),
        ("-a.example", "has a label that begins or ends with a hyphen"),
        ("a.example-", "has a label that begins or ends with a hyphen"),
        (LONGEST_NAME[:-1] + "-", "has a label that begins or ends with a hyphen"),
        ("-" * 63, "has a label that begins or ends with a hyphen"),
        ("a b.example", 'contains " "; write a host name'),
        ("a.example\n", r'contains "\n"; write "a.example"'),
        ("a\0.example", r'contains "\x00"'),
        ("*.example", 'contains "*"; there are no wildcards, so add a route for each name'),
        ("a/b", 'contains "/"; write "a"'),
        ("a\u2028b.example", "is not an internationalised name"),
        ("a\u202eb.example", "is not an internationalised name"),
        ("\ud800.example", "is not an internationalised name"),
        ("ü" * 64 + ".example", "is not an internationalised name"),
        ("ü" * 5000, "is not an internationalised name"),
    ],
)
def test_what_is_no_name_is_told_so(name: str, complaint: str) -> None:
    with pytest.raises(InvalidName) as caught:
        normalise(name)
    assert caught.value.reason is Reason.SNI_INVALID
    assert complaint in str(caught.value)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "name",
    [
        "192.0.2.1", "192.0.2.1.", "192.0.2.999", "10.1", "3221225985", "example.123", "192.0.2.1:443",
        "１９２.0.2.１",  # fullwidth digits  # noqa: RUF001
        "::1", "2001:db8::1", "[::1]", "[2001:db8::1]:443", "::ffff:192.0.2.1", "fe80::1%eth0",
    ],
)  # fmt: skip
def test_an_address_is_no_name(name: str) -> None:
    with pytest.raises(
        InvalidName,
        match=r"is an IP address, not a host name; write|ends in a number, as only IP addr",
    ) as caught:
        normalise(name)
    assert caught.value.reason is Reason.SNI_IP_LITERAL


@pytest.mark.parametrize("name", ["a.test:443", "https://a.test/", "https://192.0.2.1/"])
def test_more_than_a_name_is_no_address(name: str) -> None:
    """`explain --sni https://...` ended with "sni_ip_literal", which sent its reader after an address."""
    with pytest.raises(InvalidName, match=r"is a URL; write|has a port; write") as caught:
        normalise(name)
    assert caught.value.reason is Reason.SNI_INVALID


def test_a_long_name_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidName) as caught:
        normalise("a" * 60000)
    assert caught.value.fault == '"' + "a" * 80 + '"... is 60000 octets long, more than 253'
    with pytest.raises(InvalidName) as caught:
        normalise("a" * 80)
    assert caught.value.fault == '"' + "a" * 80 + '" has a label of 80 octets, more than 63'


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("https://git.example.org/path", '"https://git.example.org/path" is a URL; write "git.example.org"'),
        ("http://me@Git.example.org:80", 'is a URL; write "git.example.org"'),
        ("git.example.org:443", '"git.example.org:443" has a port; write "git.example.org"'),
        (" git.example.org", 'contains " "; write "git.example.org"'),
        ("git.example.org/x", 'contains "/"; write "git.example.org"'),
        (".example.org", 'has an empty label; write "example.org"'),
        ("me@example.org", 'contains "@"; write "example.org"'),
        ("", '"" is empty; write a host name, such as "www.example.org"'),
        ("192.0.2.1", "is an IP address, not a host name; write a host name, such as"),
    ],
)
def test_who_wrote_it_is_told_what_to_write(name: str, told: str) -> None:
    with pytest.raises(InvalidName, match=re.escape(told)) as caught:
        normalise(name)
    assert "write" not in caught.value.fault, "which is what the log says of a client"


@given(st.text(max_size=300))
def test_any_text_is_a_stable_name_or_invalid(text: str) -> None:
    try:
        normal = normalise(text)
    except InvalidName as error:
        complaint = str(error)
        assert complaint.isascii()
        return
    assert normal == normal.lower()
    assert normal.isascii()
    assert 0 < len(normal) <= MAX_NAME_BYTES
    assert not normal.endswith(".")
    assert normalise(normal) == normalise(normal.upper() + ".") == normal


LABELS = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9_])?", fullmatch=True)


@given(st.lists(LABELS, min_size=1, max_size=8).filter(lambda labels: not labels[-1].isdigit()))
def test_any_labels_make_a_name(labels: list[str]) -> None:
    assert normalise(".".join(labels).upper()) == ".".join(labels)


def is_host_name(name: str) -> bool:
    """The rule for ASCII in lower case, character by character: no regular expression decides here."""
    if len(name) > MAX_NAME_BYTES:
        return False
    label, only_digits = "", True
    for character in name + ".":
        if character != ".":
            if character not in string.ascii_lowercase + string.digits + "_-":
                return False
            label += character
            continue
        if not 0 < len(label) <= MAX_LABEL_BYTES or label[0] == "-" or label[-1] == "-":
            return False
        only_digits = all(each in string.digits for each in label)
        label = ""
    return not only_digits


def is_normal(name: str) -> bool:
    try:
        return normalise(name) == name
    except InvalidName:
        return False


def test_every_short_name_is_judged_by_the_rule() -> None:
    """Possessive quantifiers, wrong in Python 3.11.0 to 3.11.4, had `a1` refused and `-a` pass there (gh-106052)."""
    short = ("".join(letters) for size in range(7) for letters in itertools.product("a1-._", repeat=size))
    assert not [name for name in short if is_normal(name) != is_host_name(name)]


NEAR_LABELS = st.one_of(
    st.text("a1-_", max_size=4),
    st.text("z09-_", min_size=MAX_LABEL_BYTES - 2, max_size=MAX_LABEL_BYTES + 1),
    st.text(string.printable, max_size=3).map(str.lower),
)


@settings(max_examples=500)
@given(st.lists(NEAR_LABELS, max_size=6).map(".".join))
def test_any_name_is_judged_by_the_rule(name: str) -> None:
    assert is_normal(name) == is_host_name(name)
