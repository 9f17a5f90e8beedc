"""HTTP behind terminated TLS: the HTTP/2 frame relay and the HTTP/1.1 bridge.

Only `terminate`, `tls` and `drive` touch sockets; the relay and the bridge are bytes in, bytes out.
"""
