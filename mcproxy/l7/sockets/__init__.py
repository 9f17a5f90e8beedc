"""The sockets of an l7 session: everything of l7 that waits, and nothing that knows HTTP.

| file | what it knows |
| --- | --- |
| drive.py | one session: reads, has a core judge, sends, ends |
| side.py | one of its two sides: a stream and its watchers |
| stream.py | bytes of one connection, encrypted or not; the TLS handshakes |
| dialling.py | a backend connection in the making |
"""
