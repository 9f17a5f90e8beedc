"""HTTP/1.1 clients before HTTP/2 backends, exchange by exchange. No socket, no clock.

| file | what it knows |
| --- | --- |
| bridge.py | one client connection: which request comes next, what follows one that is over; where to start reading |
| exchange.py | one request and its answer, between the client's end and the backend's |
| client_http1.py | the client's end: answers, written by h11 |
| backend_end.py | the backend's end: which connection carries a request, and whether it may go once more |
| outgoing.py | a request on its way: what waits of its body, what is kept for a second attempt |
| backend_http2.py | one HTTP/2 connection to the backend: h2, guarded |
| translate.py | heads and trailers, from one HTTP to the other |
| bounds.py | every bound of the bridge, with its reason |
"""
