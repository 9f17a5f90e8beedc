"""HTTP/2 by frames, whatever the other side speaks: read, judged and bounded. No socket, no clock.

A client connection has three parts:

* `ClientLeg` is its state: the streams, the windows and limits that the client has been promised, the header blocks of
  both directions, its budget, the identifiers that are closed, and `out`, the bytes that wait for the client.
* `FromClient` judges the frames that the client sends, by RFC 9113 in full, and changes the leg.
* An `Outlet` takes what passed: a request's head, DATA, trailers, a reset, a window that has grown. It is all that
  `FromClient` knows of the other side.

        bytes -> frames.py -> from_client.py -> outlet -> the other side, in whatever it speaks
                                   |
                               ClientLeg
                                   |
        bytes <- out <------- flow.py <------------------ the other side's answers

An outlet that sends HTTP/2 itself repeats the client's own bytes: `../relay/backend_leg.py`. It keeps `up` in step, and
only then has the express lane something to do. Every other outlet reads the heads that it is given, has no `suffix`,
and takes `up` out of step at the start. Either answers through the leg: it appends whole frames to `out` (a head behind
`down.prefix()`, with the stream's `status` set), gives bodies and trailers to `flow.hold`, which sends as much as the
windows allow, and ends streams by `answer_ended`, `fail` or `reset`.

The owner of the three sets `now`, gives bytes to `take_preface` and `receive`, calls `settle` after each event and
`check` about once a second, and takes `out` and `ended`. Where `receive` or `check` raises ConnectionFault, it closes
the leg with it; where `settle` returns true, the connection has nothing left to do. `ask_to_leave` begins to drain it.

| file | what it knows |
| --- | --- |
| from_client.py | the frames of the client: identifiers, stream states, windows, requests, trailers, bodies, draining |
| outlet.py | what becomes of frames that passed |
| client_leg.py | the state of a client connection; how its streams and the connection end |
| admission.py | which requests may become streams |
| client_settings.py | what was announced to the client and when it is in force |
| windows.py, flow.py | flow control; answers that are larger than the client's windows |
| frames.py | cutting bytes into frames, collecting header blocks, passing runs of frames as one slice |
| backend_frames.py | the frames of a backend that concern no exchange, and how long a body of its has to be |
| header_link.py | one direction of header blocks: mirror table, cache, passing or encoding again |
| request_blocks.py | the cache of requests' blocks, and templates for those that differ in the path |
| stream.py | one exchange; which identifiers were used, and how they were closed |
| answers.py, budgets.py | answers of our own; every bound with its reason, and what is counted |

A backend's frames are read with the same `Frames`, `HeaderLink` and meters, by `FromBackend` of the relay and by
`FromHttp2` of the bridge; what both judge alike is in `BackendFrames`.
"""
