"""Homes: spread over the workers, stable, one for a /64. tests/net/test_group.py compares them with the kernel's."""

from collections import Counter

import pytest

from mcproxy.policy.homes import home, program
from mcproxy.policy.networks import pack


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 7, 16, 64])
@pytest.mark.parametrize("pattern", ["10.{}.{}.7", "192.0.{1}.{0}", "2001:db8:{:x}:{:x}::1", "2001:{1:x}:{0:x}::"])
def test_neighbours_are_spread_over_all_workers(workers: int, pattern: str) -> None:
    each = Counter(home(pack(pattern.format(i, j)), workers) for i in range(100) for j in range(100))
    assert set(each) == set(range(workers))
    assert max(each.values()) < 1.5 * 10_000 / workers + 30


def test_an_ipv6_address_counts_by_its_network() -> None:
    homes = {home(pack(f"2001:db8::{interface:x}"), 64) for interface in range(1000)}
    assert len(homes) == 1


def test_a_program_is_whole_instructions() -> None:
    assert len(program(2)) % 8 == 0
