"""HTTP/1.1 clients before HTTP/2 backends, exchange by exchange. No socket, no clock.

| file | what it knows |
| --- | --- |
| bridge.py | what happens when, on one client connection |
| course.py | how requests begin and end |
| exchange.py | one request and its answer |
| client_http1.py | the client's side: h11 |
| backend_http2.py | the backend's side: h2 |
| translate.py | heads and trailers, from one HTTP to the other |
| bounds.py | every bound of the bridge, with its reason |
"""
