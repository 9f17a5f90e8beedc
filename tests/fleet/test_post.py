import logging

import pytest

from mcproxy.fleet.post import Post
from mcproxy.fleet.standing import State
from mcproxy.store.errors import NameTaken, NewerSchema, StoreError, Unavailable, UnreadableRow


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Unavailable("it hangs"), State.ALONE),
        (NameTaken("of another"), State.REFUSED),
        (NewerSchema("upgrade"), State.OUTDATED),
        (UnreadableRow("a row"), State.STUCK),
    ],
)
def test_a_node_that_does_not_follow_refuses_changes_and_says_why(error: StoreError, state: State) -> None:
    post = Post("edge1", lambda: 7)
    post.stand(State.FOLLOWING, known=7)
    post.refuse_unless_following()
    post.lost(error)
    assert post.standing.state is state
    stays = "" if state is State.REFUSED else "; generation 7 stays in force"
    with pytest.raises(Unavailable, match=f"node edge1 is {state} since .* and takes no changes{stays}: {error}"):
        post.refuse_unless_following()


def test_a_state_is_logged_once_and_begins_once(caplog: pytest.LogCaptureFixture) -> None:
    post = Post("edge1", lambda: 7)
    with caplog.at_level(logging.INFO):
        post.lost(Unavailable("it hangs"))
        since = post.standing.since
        post.lost(Unavailable("it still hangs"))
        post.stand(State.FOLLOWING, known=9)
    assert [record.message for record in caplog.records] == [
        "node edge1 is alone and takes no changes; generation 7 stays in force: it hangs",
        "node edge1 follows the fleet's database",
    ]
    assert post.standing.since >= since
    assert post.standing.behind(7) == 2


def test_each_row_that_cannot_be_read_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    post = Post("edge1", lambda: 7)
    for row in ("one", "one", "two"):
        post.lost(UnreadableRow(row))
    assert [record.message.rpartition(": ")[2] for record in caplog.records] == ["one", "two"]
