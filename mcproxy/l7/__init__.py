"""HTTP behind terminated TLS: the HTTP/2 frame relay.

Only the session files touch sockets; the relay is bytes in, bytes out.
"""
