"""Bytes to values and back: ClientHello, names, PROXY headers. Pure: no socket, no clock, no log."""
