"""HTTP behind TLS that ends here.

The life of a request, and where each step is:

    the session has peeked at the ClientHello and found an l7 route
      terminate.py       shakes hands with the route's certificate, asks what the backend speaks, and chooses a core:
                         the relay for HTTP/2 to HTTP/2, the bridge for all else; hands it to a drive
      sockets/drive.py   reads the client, hands the bytes to the core, dials the backend when the core asks
      relay/  bridge/    judge them as RFC 9113 or RFC 9112 asks; the request goes out in bytes for the backend
      sockets/drive.py   sends those, reads the backend, hands its bytes to the core; for a bridge it is
                         sockets/lines.py that does, on connections that sockets/pool.py keeps for the route
      relay/  bridge/    judge the answer; it goes out in bytes for the client
      sockets/drive.py   sends those; hands the exchange, now over, to log and counters
    and at the end of the connection: what is left, then close_notify and FIN, or a RST where an answer broke off

| room | what is in it | may import gevent, ssl, socket |
| --- | --- | --- |
| `terminate.py` | the way in | yes |
| `approach.py` | the way out: PROXY header, dial, TLS, and the version of HTTP that is spoken there | yes |
| `sockets/` | both sides' sockets, TLS, time, back-pressure, whose turn it is | yes |
| `core.py` | the contract between sockets and HTTP; how an exchange can end | no |
| `bounds.py` | the bounds that both kinds of HTTP share | no |
| `meters.py` | every rate that a peer can drive, and what counts it | no |
| `generations.py` | the caches of heads and header blocks | no |
| `http2/` | HTTP/2 by frames: what a client may send, and its bounds | no |
| `relay/` | HTTP/2 to HTTP/2, frame by frame | no |
| `bridge/` | every other pairing of versions, exchange by exchange | no |

`sockets/`, `relay/` and `bridge/` don't import each other: they meet in `core.py`, and `terminate.py` joins them.
`http2/` imports none of the three.
"""
