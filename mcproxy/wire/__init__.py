"""Bytes to values and back: ClientHello, PROXY headers, HTTP. Pure: no socket, no clock, no log."""
