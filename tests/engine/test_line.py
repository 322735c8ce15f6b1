"""Who goes next, and whether there is room: the line without a worker."""

from __future__ import annotations

import random

import pytest

from earthmind_lab.engine.asks import Ask
from earthmind_lab.engine.line import Line
from earthmind_lab.errors import Cancelled, EngineBusy, EngineError, EngineUnavailable
from earthmind_lab.exchange import Options, Prompt, Queued


def make(text: str, seat: str = "", priority: int = 0, *, needs: int = 0, **options) -> Ask:
    chosen = Options(seat=seat, priority=priority, **options)
    return Ask(Prompt(text=text), chosen, submitted=0.0, needs=needs)


def line(*asks: Ask, places: int = 1, limit: int = 1000, capacity: int = 100) -> Line:
    made = Line("stand-in", limit=limit, places=places, capacity=capacity)
    for ask in asks:
        made.add(ask)
    return made


def served(queue: Line, *, keep: int = 1) -> list[str]:
    """What is let in, in order, where each makes room for the one `keep` later."""
    taken, running = [], []
    while (ask := queue.take()) is not None:
        taken.append(ask.prompt.text)
        running.append(ask)
        if len(running) >= keep:
            queue.left(running.pop(0))
    return taken


def positions(ask: Ask) -> list[int]:
    return [event.position for event in ask._events if isinstance(event, Queued)]


def test_seats_take_turns_whatever_their_piles():
    piled = [make(f"a{i}", "a") for i in range(5)]
    others = [make("b0", "b"), make("c0", "c"), make("b1", "b")]
    assert served(line(*piled, *others)) == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4"]


def test_the_seat_with_the_fewest_under_way_goes_first():
    queue = line(make("a0", "a"), make("a1", "a"), make("b0", "b"), make("b1", "b"), places=3)
    first = [queue.take() for _ in range(3)]
    assert [ask.prompt.text for ask in first] == ["a0", "b0", "a1"]
    queue.left(first[0])  # a has one under way, b has one, and b was served longer ago
    assert queue.take().prompt.text == "b1"
    queue = line(*(make(f"a{i}", "a") for i in range(3)), places=3)
    first = [queue.take() for _ in range(2)]
    queue.add(make("b0", "b"))
    assert queue.take().prompt.text == "b0"


def test_priority_goes_before_turns():
    asks = [make("a0", "a"), make("a1", "a", 2), make("b0", "b"), make("b1", "b", -1)]
    assert served(line(*asks)) == ["a1", "b0", "a0", "b1"]


def test_newcomers_do_not_overtake_a_seat_that_waits():
    queue = line(make("a0", "a"), make("a1", "a"), make("a2", "a"))
    order = []
    for number in range(6):
        ask = queue.take()
        order.append(ask.prompt.text)
        queue.add(make(f"new{number}", f"new{number}"))
        queue.left(ask)
    assert order == ["a0", "a1", "new0", "a2", "new1", "new2"], "a1 was there before new0"


def test_a_seat_that_left_is_forgotten():
    queue = line()
    for number in range(50):
        queue.add(make("x", f"visitor {number}"))
        queue.left(queue.take())
    assert queue._served == {}


def test_every_eighth_is_batch_where_batch_waits():
    batch = [make(f"batch{i}", "machine", -1) for i in range(3)]
    people = [make(f"p{i}", f"person {i % 4}") for i in range(30)]
    order = served(line(*batch, *people))
    assert [order.index(ask.prompt.text) for ask in batch] == [7, 15, 23]
    assert len(order) == 33


def test_the_lowest_of_three_priorities_is_reached_too():
    low, middle = make("low", "a", -5), [make(f"m{i}", "b", -1) for i in range(20)]
    high = [make(f"h{i}", "c") for i in range(200)]
    assert served(line(low, *middle, *high)).index("low") == 7
    assert served(line(*middle, low, *high)).index("low") == 7 + 20 * 8


def test_batch_never_takes_the_last_places():
    batch = [make(f"batch{i}", f"machine {i}", -1) for i in range(20)]
    queue = line(*batch, places=16)
    taken = [queue.take() for _ in range(14)]
    assert None not in taken
    assert queue.take() is None, "two of sixteen are kept free"
    for name in ("one", "two"):
        queue.add(make(name, "person"))
        assert queue.take().prompt.text == name
    queue.add(make("three", "person"))
    assert queue.take() is None
    queue.left(taken[0])
    assert queue.take().prompt.text == "three"


def test_batch_leaves_a_place_free_where_the_device_allows_fewer():
    batch = [make(f"batch{i}", f"machine {i}", -1) for i in range(8)]
    queue = line(*batch, places=8)
    running = [queue.take() for _ in range(7)]
    for ask in running[2:]:
        queue.put_back(ask)
    queue.crowded(2)
    queue.left(running[0])
    assert queue.take() is running[2], "of three places batch has two"
    assert queue.take() is None
    queue.add(person := make("person", "p"))
    assert queue.take() is person


def test_batch_never_takes_the_last_of_the_memory():
    batch = [make(f"batch{i}", f"machine {i}", -1, needs=20) for i in range(8)]
    queue = line(*batch, make("small", "machine 9", -1, needs=1), places=16)
    taken = [queue.take() for _ in range(4)]
    assert queue.take() is None, "87 of 100 at most, and no small one slips past"
    queue.add(person := make("person", "p", needs=20))
    assert queue.take() is person
    queue.left(taken[0])
    assert queue.take() is batch[4]


def test_a_batch_ask_that_needs_the_whole_memory_is_let_in():
    small, large = make("small", "a", -1, needs=10), make("large", "b", -1, needs=100)
    queue = line(small, large, make("later", "c", -1, needs=10), places=8)
    assert queue.take() is small
    assert queue.take() is None
    queue.left(small)
    assert queue.take() is large


def test_batch_alone_goes_on_with_a_single_place():
    assert served(line(make("a", "a", -1), make("b", "b", -1))) == ["a", "b"]


def test_what_does_not_fit_waits_and_nobody_slips_past():
    small, large = make("small", "a", needs=60), make("large", "b", needs=70)
    tiny = make("tiny", "c", needs=1)
    queue = line(small, large, tiny, places=8)
    assert queue.take() is small
    assert queue.take() is None
    queue.left(small)
    assert queue.take() is large
    assert queue.take() is tiny


def test_after_a_full_device_fewer_run_and_each_end_allows_one_more():
    queue = line(*(make(str(i), str(i)) for i in range(9)), places=4)
    running = [queue.take() for _ in range(4)]
    for ask in running[2:]:
        queue.put_back(ask)
    queue.crowded(2)
    assert queue.take() is None
    queue.left(running[0])
    again = [queue.take(), queue.take(), queue.take()]
    assert again == [*running[2:], None], "they stand where they stood; three may run"


def test_one_that_was_sent_back_goes_first_until_it_runs():
    batch = [make(f"batch{i}", f"machine {i}", -1) for i in range(2)]
    queue = line(*batch, places=4)
    running = [queue.take(), queue.take()]
    for number in range(20):
        queue.add(make(f"p{number}", f"person {number}"))
    for ask in running:
        queue.put_back(ask)
    assert positions(batch[0]) == [0]
    assert queue.take() is running[0], "and the other one stands where it stood"
    queue.left(running[0])
    assert served(queue).index("batch1") == 7
    ask = make("stopped", "machine", -1)
    queue.add(ask)
    queue.put_back(queue.take())
    ask.cancel()
    queue.add(other := make("other"))
    assert queue.take() is other, "nobody is held who has ended"


def test_positions_are_told_when_they_change_and_only_then():
    queue = line(*(make(str(i), str(i)) for i in range(4)), places=2)
    asks = list(queue._waiting.values())
    assert [positions(ask) for ask in asks] == [[0], [0], [1], [2]]
    first, second = queue.take(), queue.take()
    assert [positions(ask) for ask in asks] == [[0], [0], [1], [2]]
    queue.add(urgent := make("urgent", "x", 1))
    assert [positions(ask) for ask in (*asks, urgent)] == [[0], [0], [1, 2], [2, 3], [1]]
    queue.left(first)
    urgent.cancel()
    queue.expire(0.0)
    assert [positions(ask) for ask in (*asks, urgent)] == [
        [0], [0], [1, 2, 1, 0], [2, 3, 2, 1], [1, 0],
    ]  # fmt: skip
    queue.put_back(second)
    assert positions(second) == [0], "unchanged, so not said again"


def test_positions_count_who_must_end_for_want_of_memory():
    asks = [
        make(name, name, needs=needs) for name, needs in zip("abcd", (60, 60, 60, 30), strict=True)
    ]
    queue = line(*asks, places=8)
    assert [positions(ask) for ask in asks] == [[0], [1], [2], [2]]
    queue.left(queue.take())
    assert [positions(ask)[-1] for ask in asks[1:]] == [0, 1, 1]


def test_positions_count_who_must_end_for_batch_to_have_its_part():
    batch = [make(f"batch{i}", f"machine {i}", -1) for i in range(5)]
    queue = line(*batch, places=3)
    assert [positions(ask) for ask in batch] == [[0], [0], [1], [2], [3]]
    queue.add(person := make("person", "p"))
    assert positions(person) == [0], "the place that batch leaves"
    assert [queue.take(), queue.take(), queue.take()] == [person, *batch[:2]]
    assert [positions(ask)[-1] for ask in batch[2:]] == [2, 3, 4], "the person's end helps nobody"
    queue.left(person)
    assert [positions(ask)[-1] for ask in batch[2:]] == [1, 2, 3]


@pytest.mark.parametrize("priority", [0, -1])
@pytest.mark.parametrize("seed", range(10))
def test_positions_come_true_where_nobody_else_comes(seed, priority):
    """And those under way end in the order in which they began."""
    noise = random.Random(seed)
    queue = line(places=noise.randint(1, 8))
    queue.crowded(noise.randint(1, 3))
    asks = [make("x", str(i), priority, needs=noise.choice([0, 5, 20, 50, 100])) for i in range(30)]
    for ask in asks:
        queue.add(ask)
    running: list[Ask] = []
    while queue._waiting:
        came = []
        while (ask := queue.take()) is not None:
            came.append(ask)
        running += came
        assert all(positions(ask)[-1] == 0 for ask in came)
        waiting = list(queue._waiting.values())
        before = {ask.id: positions(ask)[-1] for ask in waiting}
        assert all(before.values()), "nobody is told 0 who can't begin"
        queue.left(running.pop(0))
        assert all(positions(ask)[-1] == before[ask.id] - 1 for ask in waiting)


@pytest.mark.parametrize("who", ["stats", "take", "add"])
def test_positions_are_told_whoever_finds_that_one_has_ended(who):
    running, ended = make("running", "a", needs=60), make("ended", "b", needs=10)
    large, small = make("large", "c", needs=70), make("small", "d", needs=1)
    queue = line(running, ended, large, small, places=2, limit=2)
    assert queue.take() is running
    assert positions(small)[-1] == 2
    ended.cancel()
    if who == "stats":
        assert queue.sizes()[:2] == (1, 2)
    elif who == "take":
        assert queue.take() is None, "the large one does not fit"
    else:
        with pytest.raises(EngineBusy):
            queue.add(make("more", "d"))
    assert positions(small)[-1] == 1


def test_a_full_line_still_takes_a_seat_that_has_nothing_in_it():
    queue = line(make("a0", "a"), make("a1", "a"), limit=2)
    with pytest.raises(EngineBusy, match="2 asks waiting"):
        queue.add(make("a2", "a"))
    queue.add(make("b0", "b"))
    queue.add(make("c0", "c"))
    with pytest.raises(EngineBusy):
        queue.add(make("d0", "d"))


def test_waiting_asks_end_by_their_deadline_and_by_close():
    late, other, running = make("late", deadline=2.0), make("other"), make("running", "b")
    queue = line(running, late, other)
    assert queue.take() is running
    queue.expire(1.9)
    assert not late.ended
    queue.expire(2.0)
    with pytest.raises(EngineError, match="deadline of 2 s"):
        late.result(0)
    queue.close()
    with pytest.raises(Cancelled):
        other.result(0)
    assert running.stop_asked and not running.ended
    with pytest.raises(EngineUnavailable):
        queue.add(make("more"))
    running.fail(Cancelled("The ask was stopped."))
    queue.left(running)
    under_way, waiting, counts = queue.sizes()
    assert (under_way, waiting) == (0, 0)
    assert (counts.done, counts.failed, counts.cancelled) == (0, 1, 2)


def test_one_stopped_while_it_is_put_back_ends():
    ask = make("x")
    queue = line(ask)
    assert queue.take() is ask
    ask.cancel()
    assert not ask.ended, "the worker ends it"
    queue.take_back()
    with pytest.raises(Cancelled):
        ask.result(0)
    assert queue.sizes()[:2] == (0, 0)
