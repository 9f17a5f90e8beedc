"""The contract of the admin API and its clients beside admin.proto: keys of metadata, and bounds of one call."""

from typing import Final

from mcproxy.admin.pb import admin_pb2

SERVICE: Final = admin_pb2.DESCRIPTOR.services_by_name["ProxyAdminService"].full_name

# In the trailing metadata of every refusal of ours: a client can tell our UNAVAILABLE from a server that isn't there.
REFUSED = "mcproxy-refused"
ABOUT = "mcproxy-about"  # beside it: the field's path, or the kind of value, that a refusal is about
CLAIM = "mcproxy-claim-bin"  # in the metadata of a call, in UTF-8: on whose behalf it is made

MAX_REQUEST = 64 << 10  # bytes of one message; the longest sensible request is a route with four paths of 4 kB
MAX_CLOSED = 1_000  # connections that one call cuts: some 50 ms of the hub, in turns of 3 ms
