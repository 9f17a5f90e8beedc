"""Header blocks of requests: the cache of sections (header_link.py), and templates for those that differ in the path.

The requests of one client are nearly all alike but for :path, which clients encode as a literal that leaves the dynamic
table alone, because it repeats so seldom (nghttp2, curl, and browsers do). So a block is three parts: what is before
that literal's value, the value, what is behind it. The section of a block that was read in full, and passed every
check, is a *template*: kept by (table, part before, part behind), it is the answer to every block that differs from it
in the value only.

**Why that is right.** HPACK reads a block from left to right, and what it reads of the parts before and behind depends
on the table and on those bytes: a literal without indexing leaves the table as it is, and its value is no part of what
follows. So fields, the table after them, and faults of encoding are the template's, but for the path. Of the checks
(wire/requests.py), only one asks what the path is: whether it is an absolute path in the characters that one may have,
or "*". Here it is asked the same question, by the same function, and every other answer is the template's: what passes,
what is rewritten, which host it is for. A value that is no such path, a Huffman code that is wrong, a block that says
:path in another way: all that is read in full, as if there were no templates. So are OPTIONS and CONNECT, whose targets
have other forms, requests that are answered here (Max-Forwards), and tunnels: they have no template.

**What it costs.** A section that was made so is charged what the making takes, and the path's Huffman code as in a
block that is read in full. Only every KEPT_OF_MADE-th of them enters the cache of sections: a path that comes often
will be among these, and those that come once don't push out what is used. Templates are as few and as small as
sections. From timing a client can learn whether somebody sent the same whole head, whatever its path: so no secret can
be learnt piece by piece.
"""

from typing import Final, NamedTuple

from mcproxy.l7.core import Turn
from mcproxy.l7.generations import Generations
from mcproxy.l7.http2.budgets import BYTES_DECODED, CACHE_BLOCK_BYTES, CACHE_BLOCKS, KEPT_OF_MADE, PATH_COST
from mcproxy.l7.http2.header_link import BlockCache, Section, is_small
from mcproxy.wire import huffman
from mcproxy.wire.fields import Request
from mcproxy.wire.hpack_block import DynamicTable, Field, NeverIndexed, path_value
from mcproxy.wire.requests import check_request, is_path, passed_request

_SPECIAL: Final = frozenset((b"CONNECT", b"OPTIONS"))  # methods whose target has other forms than a path


class Template(NamedTuple):
    """A section for all blocks that differ from its own in the path only."""

    section: Section[Request]
    place: int  # of :path among its fields


Key = tuple[DynamicTable, bytes, bytes]  # the table, and the block before and behind the value of :path


class RequestBlocks(BlockCache[Request]):
    """Sections of requests by (table, block), and templates for them."""

    __slots__ = ("_made", "templates")

    def __init__(self, capacity: int = CACHE_BLOCKS) -> None:
        super().__init__(check_request, passed_request, capacity)
        self.templates: Generations[Key, Template] = Generations(capacity)
        self._made = 0  # sections, from templates

    def read(self, block: bytes, table: DynamicTable, allowed: int, turn: Turn) -> Section[Request]:
        """The section of a block that is not in `young`. Raises ConnectionFault."""
        if table.max_size <= allowed:
            made = self.made(block, table, turn)
            if made is not None:
                return made
        return super().read(block, table, allowed, turn)

    def made(self, block: bytes, table: DynamicTable, turn: Turn) -> Section[Request] | None:
        """Make a section from its template; None: it has to be read in full. The table must be allowed."""
        at, begin, end = path_value(block)
        if not at or len(block) > CACHE_BLOCK_BYTES:
            return None
        key = (table, block[:at], block[end:])
        template = self.templates.young.get(key) or self.templates.again(key)
        if template is None:
            return None
        path = block[begin:end]
        turn.left -= PATH_COST
        if block[at] & 0x80:
            turn.left -= len(path) // BYTES_DECODED
            try:
                path = huffman.decode(path)
            except huffman.HuffmanFault:
                return None
        if not is_path(path):
            return None
        section = self._with_path(template, path)
        self._made += 1
        if not self._made % KEPT_OF_MADE and is_small(block, section.fields):
            self.keep((table, block), section)
        return section

    def _with_path(self, template: Template, path: bytes) -> Section[Request]:
        model, place = template.section, template.place
        value = model.value
        assert value is not None  # or it would be no template
        fields = model.fields.copy()
        fields[place] = _path_field(fields[place], path)
        section: Section[Request] = Section(fields, model.table, model.table, self.passed)
        section.moved = model.moved
        section.value = request = value.with_path(path)
        section.may_pass = model.may_pass
        section.fits_all = model.fits_all
        section.express = None if model.express is None else request
        section.template = model
        return section

    def learn(self, block: bytes, table: DynamicTable, section: Section[Request]) -> None:
        """Keep a section that is small, and a template, if it can be one."""
        super().learn(block, table, section)
        request = section.value
        if request is None or request.method in _SPECIAL or request.protocol or request.refusal:
            return
        at, _, end = path_value(block)
        if at and is_path(request.path):
            place = [name for name, _ in section.fields].index(b":path")
            self.templates.keep((table, block[:at], block[end:]), Template(section, place))


def _path_field(before: Field, path: bytes) -> Field:
    field = (b":path", path)
    return NeverIndexed(field) if isinstance(before, NeverIndexed) else field


REQUESTS: Final = RequestBlocks()
