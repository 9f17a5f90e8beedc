"""Pipes are used again, and there are never too many."""

from mcproxy.net.pipes import MAX_PIPES, SPARE_PIPES, Pipes
from tests.kit.socket_pairs import no_more_descriptors


def test_pipes_are_used_again_if_they_are_empty(nothing_left: None) -> None:
    pipes = Pipes()
    first, second = pipes.take(), pipes.take()
    assert first
    assert second
    pipes.give(first, empty=True)
    pipes.give(second, empty=False)
    assert pipes.take() == first
    pipes.give(first, empty=True)
    pipes.close()


def test_no_more_pipes_are_kept_than_the_bound(nothing_left: None) -> None:
    pipes = Pipes()
    taken = [pipes.take() for _ in range(SPARE_PIPES + 3)]
    for pipe in taken:
        assert pipe
        pipes.give(pipe, empty=True)
    assert repr(pipes) == f"<Pipes spare={SPARE_PIPES}>"
    pipes.close()


def test_there_are_no_more_pipes_than_the_bound(nothing_left: None) -> None:
    pipes = Pipes()
    taken = [pipes.take() for _ in range(MAX_PIPES)]
    assert pipes.take() is None
    for pipe in taken:
        assert pipe
        pipes.give(pipe, empty=False)
    again = pipes.take()
    assert again
    pipes.give(again, empty=False)


def test_without_descriptors_there_is_no_pipe(nothing_left: None) -> None:
    pipes = Pipes()
    with no_more_descriptors():
        assert pipes.take() is None
