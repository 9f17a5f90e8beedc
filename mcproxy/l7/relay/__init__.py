"""HTTP/2 clients before HTTP/2 backends, frame by frame. No socket, no clock.

| file | what it knows |
| --- | --- |
| relay.py | one client connection and its backend connection: where to start reading |
| backend_leg.py | the state of the backend's connection; the outlet of the client's frames |
| uploads.py | bodies of requests, and the backend's windows |
| from_backend.py | the frames of the backend: heads, bodies, GOAWAY; its faults are never the client's |
| settings.py | which SETTINGS pass from one side to the other |

The client's end is in ../http2: its leg, and `FromClient`, which judges its frames and hands what passed to the
backend's leg, its outlet. `FromBackend` judges the backend's frames and appends what passed to the client's leg.
"""
