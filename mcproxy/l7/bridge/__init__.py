"""Clients and backends that speak different versions of HTTP, exchange by exchange. No socket, no clock.

That is every pairing of versions but HTTP/2 to HTTP/2, which ../relay passes frame by frame.

| file | what it knows |
| --- | --- |
| bridge.py | the core: joins a client's connection and its lines |
| ends.py | the contracts of an exchange with its two ends, in no version's words, and of a client's connection |
| exchange.py | one request and its answer: what holds for every pairing |
| request_half.py | the request's half: how much has come, how much has gone, whether it may go once more |
| answer_half.py | the answer's half |
| body.py | a request's body: what waits, and what is kept for a second attempt |
| backend_line.py | an exchange's way to the backend: a line for the drive, the backend's end for the exchange |
| client_http1.py | an HTTP/1.1 client's connection: which request comes next, what follows one that is over |
| answers_http1.py | the client's end in HTTP/1.1: how an answer is framed, and whether its connection goes on |
| client_http2.py | an HTTP/2 client's connection: its leg and its judge, which are ../http2's |
| stream_outlet.py, stream_end.py | that client's streams as exchanges; the client's end of one |
| heads.py | heads in the neutral form, and their bytes in either version |
| translate.py | heads of HTTP/1.1, requests and answers, to the neutral form |
| request_heads.py | the heads of an HTTP/1.1 client, found, and cached whole |
| head_cache.py | that cache, of either direction |
| http1_connection.py | one HTTP/1.1 connection to the backend: requests framed as parsed, answers read strictly |
| http2_connection.py, http2_leg.py | one HTTP/2 connection to the backend: what is sent; its windows and its request |
| from_http2.py | the frames of that backend, judged, and what the exchange gets of them |
| bounds.py | every bound of the bridge, with its reason |
"""
