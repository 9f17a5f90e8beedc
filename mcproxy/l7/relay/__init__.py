"""HTTP/2 clients before HTTP/2 backends, frame by frame. No socket, no clock.

| file | what it knows |
| --- | --- |
| relay.py | one client connection and its backend connection: where to start reading |
| from_client.py | the frames of the client: stream states, identifiers, windows, requests, trailers, bodies |
| from_backend.py | the frames of the backend: heads, bodies, GOAWAY; its faults are never the client's |
| settings.py | which SETTINGS pass to the other side, when they are in force, who acknowledges |
| flow.py | what a backend sends beyond the client's windows |
| pair.py | the state that both directions share, and how streams and connections end |

Frames, header blocks and bounds are in ../http2.
"""
