"""HTTP/2 clients before HTTP/2 backends, frame by frame. No socket, no clock.

| file | what it knows |
| --- | --- |
| relay.py | one client connection and its backend connection: where to start reading |
| frames.py | cutting bytes into frames, collecting header blocks, passing runs of frames as one slice |
| from_client.py | the frames of the client: stream states, identifiers, windows, requests, trailers, bodies |
| from_backend.py | the frames of the backend: heads, bodies, GOAWAY; its faults are never the client's |
| header_link.py | one direction of header blocks: mirror table, cache, passing or encoding again |
| settings.py | which SETTINGS pass to the other side, when they are in force, who acknowledges |
| flow.py | what a backend sends beyond the client's windows |
| pair.py | the state that both directions share, and how streams and connections end |
| stream.py, answers.py, budgets.py | an exchange; answers of our own; every bound with its reason |
"""
