"""A CA that speaks ACME (RFC 8555), asked by Certbot's library: one request or two a call, in a native thread.

The library has the messages, their signatures and the nonces. What it lacks is here: stepwise orders (it waits in its
own loops), the Retry-After of an error, words for a person, renewal information as a window.
"""

import datetime as dt
import re
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, cast

import requests
from acme import challenges, client, errors, messages
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from josepy import errors as jose_errors
from josepy.json_util import JSONObjectWithFields, encode_b64jose, field
from josepy.jwa import ES256
from josepy.jwk import JWKEC
from requests.adapters import HTTPAdapter

from mcproxy import __version__
from mcproxy.certificates.acme.contract import CaSettings, OrderLost, Refusal, Seen

TIMEOUT = 30  # seconds for a connection, and between two pieces of an answer
NONCE_TRIES = 5  # a CA may refuse a good nonce (RFC 8555, section 6.5); the library tries twice
MAX_ANSWER = 1 << 20  # bytes: a chain has some 10 KB, all else less
TLS_ALPN_01 = "tls-alpn-01"
MAX_RETRY_AFTER = 30 * 86_400.0  # seconds: a header may say anything
_OPENSSL = re.compile(r"^_ssl\.c:\d+: | \(_ssl\.c:\d+\)$")  # a place in Python's source, which helps nobody
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


class _Network(client.ClientNetwork):
    """Remembers what an error says beside its words, and tries nonces more often."""

    retry_after = 0.0
    url = ""  # that was asked last
    status = 0  # of the last answer
    instance = ""  # the page that an error refers to; the library drops it

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        self.url = url
        response = super()._send_request(method, url, *args, **kwargs)
        self.status = response.status_code
        self.retry_after = _seconds(response.headers.get("Retry-After", ""), response.headers.get("Date", ""))
        self.instance = _instance(response) if self.status >= HTTPStatus.BAD_REQUEST else ""
        return response

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        for _ in range(NONCE_TRIES):
            try:
                return super().post(*args, **kwargs)
            except messages.Error as error:
                if error.code != "badNonce":
                    raise
        return super().post(*args, **kwargs)


class _NewOrder(JSONObjectWithFields):
    """A new order, with what the library's own lacks."""

    identifiers: list[messages.Identifier] = field("identifiers", omitempty=True)
    profile: str = field("profile", omitempty=True)
    replaces: str = field("replaces", omitempty=True)

    def __init__(self, identifiers: list[messages.Identifier], profile: str = "", replaces: str = "") -> None:
        super().__init__(identifiers=identifiers, profile=profile, replaces=replaces)


class _Bounded(HTTPAdapter):
    """Reads an answer as far as MAX_ANSWER: requests would read all of it."""

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        response = super().send(*args, **{**kwargs, "stream": True})
        whole = response.raw.read(MAX_ANSWER + 1, decode_content=True)
        response.close()
        if len(whole) > MAX_ANSWER:
            raise requests.RequestException(f"its answer has more than {MAX_ANSWER >> 20} MiB")
        response._content, response._content_consumed = whole, True
        return response


class CA:
    """One account at one CA. Every call may take TIMEOUT a request, and raises Refusal."""

    def __init__(self, settings: CaSettings, key_pem: str, account: str) -> None:
        """`account` is its URL; "": `register` comes first."""
        self._settings = settings
        self._key = JWKEC(key=load_pem_private_key(key_pem.encode(), password=None))
        agent = f"mcproxy/{__version__}"
        self._net = _Network(
            self._key, alg=ES256, verify_ssl=cast("bool", settings.ca or True), user_agent=agent, timeout=TIMEOUT
        )
        self._net.session.mount("https://", _Bounded())
        self._directory: messages.Directory | None = None
        self._account = ""
        if account:
            self._use(account)

    def __repr__(self) -> str:
        return f"<CA {self._settings.directory}>"

    def register(self) -> str:
        """Make an account for the key, or find the one that it has. Returns the account's URL."""
        contact = (f"mailto:{self._settings.email}",) if self._settings.email else ()
        new = messages.NewRegistration(contact=contact, terms_of_service_agreed=True)
        self._net.account = None
        url = self._made("newAccount", new)
        self._use(url)
        return url

    def is_valid(self) -> bool:
        """Whether the CA takes the account still (RFC 8555, section 7.3.6)."""
        try:
            return bool(self._json(self._account).get("status") == "valid")
        except Refusal as refusal:
            if refusal.code in {"unauthorized", "accountDoesNotExist"}:
                return False
            raise

    def write_to(self, email: str) -> None:
        """Have the account's owner be written to at this address (RFC 8555, section 7.3.2)."""
        self._post(self._account, messages.UpdateRegistration(contact=(f"mailto:{email}",)))

    def order(self, hostname: str, renewed: bytes | None) -> str:
        """Order a certificate for a name. Returns the order's URL.

        `renewed` is the chain that it is to replace: a CA may count renewals apart (RFC 9773, section 5).
        """
        name = messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=hostname)
        replaces = self._identified(renewed) if renewed is not None and "renewalInfo" in self._resources() else ""
        try:
            return self._made("newOrder", _NewOrder([name], self._settings.profile, replaces))
        except Refusal as refusal:
            if not replaces or refusal.code not in _NO_REPLACEMENT:
                raise
            return self._made("newOrder", _NewOrder([name], self._settings.profile))

    def look(self, url: str) -> Seen:
        """An order as it is now."""
        seen: Seen = self._asked(lambda: self._look(url))
        return seen

    def _look(self, url: str) -> Seen:
        order = self._order(url)
        retry_after, status = self._net.retry_after, str(order.get("status", ""))
        if status == "valid":
            return Seen(status, certificate=str(order.get("certificate", "")))
        if status not in {"pending", "invalid"}:
            return Seen(status, str(order.get("finalize", "")), retry_after=retry_after)
        for authorization in order.get("authorizations", ()):  # of one name, so there is one
            found = self._authorization(str(authorization), retry_after)
            if found.challenge or found.problem:
                return found
        problem = _problem(order.get("error")) if status == "invalid" else ""
        return Seen(status, problem=problem, retry_after=retry_after)

    def _order(self, url: str) -> dict[str, Any]:
        try:
            return self._json(url)
        except Refusal as refusal:
            if self._net.status == HTTPStatus.NOT_FOUND or refusal.code == "malformed":
                raise OrderLost(f"the CA no longer has the order: {refusal}", refusal.code) from refusal
            raise

    def _authorization(self, url: str, retry_after: float) -> Seen:
        found = self._json(url)
        for each in found.get("challenges", ()):
            if each.get("type") != TLS_ALPN_01:
                continue
            if each.get("status") == "invalid" or found.get("status") == "invalid":
                return Seen("invalid", problem=_problem(each.get("error")))
            if each.get("status") in {"pending", "processing"}:
                challenge, token = str(each["url"]), str(each["token"])
                is_looking = each.get("status") == "processing"
                return Seen("pending", "", "", challenge, token, is_looking, retry_after=retry_after)
        if found.get("status") == "pending":
            return Seen("invalid", problem=f"the CA offers no {TLS_ALPN_01} for this name")
        return Seen(str(found.get("status", "")))

    def key_authorization(self, token: str) -> str:
        """What proves that the account answers a challenge (RFC 8555, section 8.1)."""
        return f"{token}.{encode_b64jose(self._key.thumbprint())}"

    def begin(self, challenge: str) -> None:
        """Have the CA look at the answer to a challenge."""
        self._post(challenge, challenges.DNS01Response())  # an empty object, whatever the challenge

    def finalize(self, url: str, request: bytes) -> None:
        """Have the certificate issued; `request` is DER."""
        csr = x509.load_der_x509_csr(request)
        self._post(url, messages.CertificateRequest(csr=csr))

    def download(self, url: str) -> bytes:
        """The chain, PEM."""
        return bytes(self._post(url, None).content)

    def renewal(self, chain: bytes) -> tuple[float, float, float] | None:
        """When to renew a certificate (RFC 9773): a window's begin and end, and when to ask again, in seconds from now.

        None: the CA doesn't say.
        """
        if "renewalInfo" not in self._resources() or not (name := self._identified(chain)):
            return None
        base = self._where("renewalInfo")
        begin, end = self._asked(lambda: _window(self._net.get(f"{base}/{name}").json()))
        return begin, end, self._net.retry_after

    def _identified(self, chain: bytes) -> str:
        """What renewal information calls a certificate (RFC 9773, section 4.1); "" for one that it has no name for."""
        try:
            leaf = x509.load_pem_x509_certificate(chain)
            return client._renewal_info_path_component(leaf)
        except (ValueError, x509.ExtensionNotFound):
            return ""

    def _resources(self) -> set[str]:
        return set(self._found().to_partial_json())

    def _made(self, resource: str, message: Any) -> str:
        """The URL of something that is made there."""
        answer = self._post(self._where(resource), message)
        return str(self._asked(lambda: answer.headers["Location"]))

    def _found(self) -> messages.Directory:
        if self._directory is None:
            url = self._settings.directory
            self._directory = self._asked(lambda: client.ClientV2.get_directory(url, self._net))
        return self._directory

    def _where(self, resource: str) -> str:
        try:
            return str(self._found()[resource])
        except KeyError:
            raise Refusal(
                f"{self._settings.directory} is no ACME directory: it has no {resource}", whole=True
            ) from None

    def _use(self, account: str) -> None:
        self._account = account
        self._net.account = messages.RegistrationResource(body=messages.Registration(), uri=account)

    def _json(self, url: str) -> dict[str, Any]:
        found = self._asked(lambda: self._post(url, None).json())
        if not isinstance(found, dict):
            raise Refusal(f"{url} answered with no object", whole=True)
        return found

    def _post(self, url: str, message: Any) -> requests.Response:
        nonces = self._where("newNonce")
        answer: requests.Response = self._asked(lambda: self._net.post(url, message, new_nonce_url=nonces))
        return answer

    def _asked(self, ask: Any) -> Any:
        """What `ask` returns, or Refusal in the words of who refused."""
        self._net.retry_after, self._net.status, self._net.instance = 0.0, 0, ""
        try:
            return ask()
        except messages.Error as error:
            raise _refusal(error, self._net.retry_after, self._net.instance) from error
        except requests.RequestException as error:
            words = f"the CA can't be asked at {self._net.url}: {_reason(error)}"
            if "certificate verify failed" in words:
                words += "; [acme] ca names the file of the CAs to verify it with"
            raise Refusal(words, whole=True) from error
        except errors.ConflictError as error:  # HTTP 409, whose words the library drops
            raise Refusal(f"{self._net.url} answered 409", "conflict") from error
        except errors.ClientError as error:
            response = error.args[0] if error.args else None
            status = getattr(response, "status_code", "")
            raise Refusal(
                f"{self._net.url} answered {status or error}", retry_after=self._net.retry_after, whole=True
            ) from error
        except OSError as error:  # of requests' own making: the file of CAs can't be read
            raise Refusal(f"acme.ca: {error}", whole=True) from error
        except _SENSELESS as error:
            raise Refusal(f"the CA's answer makes no sense: {error}", whole=True) from error


_SENSELESS = (
    errors.Error, jose_errors.Error, ValueError, KeyError, TypeError, AttributeError,
    RecursionError, OverflowError,  # JSON that is nested without end; years beyond any calendar
)  # fmt: skip
_NO_REPLACEMENT = frozenset(
    {"alreadyReplaced", "conflict", "malformed", "unauthorized"}
)  # of an order that names what it replaces
# Of the account or the CA, whatever name was asked for (RFC 8555, section 6.7).
_WHOLE = frozenset(
    {
        "accountDoesNotExist", "badNonce", "badPublicKey", "badSignatureAlgorithm", "externalAccountRequired",
        "invalidContact", "serverInternal", "unsupportedContact", "userActionRequired", "invalidProfile",
    }
)  # fmt: skip


def _window(answer: Any) -> tuple[float, float]:
    """The window that an answer suggests (RFC 9773, section 4.2), in seconds since the epoch."""
    begin, end = (dt.datetime.fromisoformat(answer["suggestedWindow"][each]).timestamp() for each in ("start", "end"))
    if begin > end:
        raise ValueError("its window ends before it begins")
    return begin, end


def _instance(response: requests.Response) -> str:
    try:
        found = response.json()
    except ValueError:
        return ""
    return str(found.get("instance", "")) if isinstance(found, dict) else ""


def _refusal(error: messages.Error, retry_after: float, instance: str) -> Refusal:
    code = str(error.typ).rsplit(":", 1)[-1]
    words = _words(error.detail or error.title or "no reason given", code)
    if code == "userActionRequired" and instance:  # section 7.3.3: where new terms are agreed to
        words += f"; go to {_CONTROL.sub(' ', instance)}"
    return Refusal(words, code, retry_after, whole=code in _WHOLE)


def _problem(error: Any) -> str:
    """The words of a problem document (RFC 7807)."""
    if not isinstance(error, dict):
        return "the CA gives no reason"
    return _words(str(error.get("detail", "no reason given")), str(error.get("type", "")).rsplit(":", 1)[-1])


def _words(detail: str, code: str) -> str:
    return f"{_CONTROL.sub(' ', detail).strip()} ({code})" if code else detail


def _reason(error: BaseException) -> str:
    """The innermost reason of an exception of requests, whose own text is a chain of reprs."""
    seen: BaseException = error
    for _ in range(8):
        inner = getattr(seen, "reason", None) or seen.__cause__ or seen.__context__
        if not isinstance(inner, BaseException):
            inner = next((each for each in seen.args if isinstance(each, BaseException)), None)
        if inner is None:
            break
        seen = inner
    if isinstance(seen, OSError) and seen.strerror:
        return _OPENSSL.sub("", seen.strerror)
    return _OPENSSL.sub("", str(seen)) or type(seen).__name__


def _seconds(retry_after: str, date: str = "") -> float:
    """A Retry-After in seconds from now (RFC 9110, section 10.2.3); 0.0: none, or none that can be read.

    `date` is the answer's: a time is by the CA's clock, not by this machine's.
    """
    if retry_after.isdecimal():
        return min(float(retry_after), MAX_RETRY_AFTER)
    until, now = _moment(retry_after), _moment(date) or dt.datetime.now(dt.UTC)
    return min(max((until - now).total_seconds(), 0.0), MAX_RETRY_AFTER) if until else 0.0


def _moment(date: str) -> dt.datetime | None:
    try:
        found = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo else None
