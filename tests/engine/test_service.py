"""Turns by what each seat has had: against a model that is plain and slow, and what seats try."""

from __future__ import annotations

import random
import sys
from collections import Counter

import pytest

from earthmind_lab.engine.asks import Ask
from earthmind_lab.engine.line import Line
from earthmind_lab.engine.service import REMEMBERED, WRITTEN, Service
from earthmind_lab.exchange import Done, Reply, Usage
from tests.engine.test_line import line, make, positions


class Plain:
    """The same line of one priority: everything is looked up anew in lists."""

    def __init__(self, places: int) -> None:
        self.places, self.waiting, self.running = places, [], []
        self.had, self.debts, self.usual = {}, {}, 64.0
        self.paid, self.expected, self.last, self.let_in = {}, {}, {}, None

    def here(self) -> set[str]:
        return {ask.seat for ask in [*self.waiting, *self.running]}

    def add(self, ask: Ask) -> None:
        waiting, known = {one.seat for one in self.waiting}, {**self.debts, **self.had}
        if ask.seat not in waiting:
            anybody = min((self.had[seat] for seat in self.here()), default=0)
            nobody_waits = known.get(self.let_in, anybody)
            least = min((self.had[seat] for seat in waiting), default=nobody_waits)
            self.had[ask.seat] = max(least, known.get(ask.seat, 0))
            self.debts.pop(ask.seat, None)
        self.waiting.append(ask)

    def score(self, ask: Ask) -> tuple[float, int, int]:
        mine = [one for one in self.running if one.seat == ask.seat]
        ahead = sum(max(0, self.expected[one] - self.paid[one]) for one in mine)
        first = min(one.arrival for one in self.waiting if one.seat == ask.seat)
        return self.had[ask.seat] + ahead, self.last.get(ask.seat, first), ask.arrival

    def take(self, clock: int) -> Ask | None:
        if not self.waiting or len(self.running) >= self.places:
            return None
        ask = min(self.waiting, key=self.score)
        self.waiting.remove(ask)
        self.running.append(ask)
        self.paid[ask] = 0
        self.expected[ask] = 2 * round(min(self.usual, ask.options.max_new_tokens))
        self.last[ask.seat] = clock
        self.let_in = ask.seat
        return ask

    def charge(self, ask: Ask, cost: int) -> None:
        self.paid[ask] += cost
        self.had[ask.seat] += cost

    def put_back(self, ask: Ask) -> None:
        self.running.remove(ask)
        self.waiting.append(ask)
        self.had[ask.seat] -= self.paid[ask]
        self.last[ask.seat] = min(ask.arrival, self.last.get(ask.seat, ask.arrival))

    def left(self, ask: Ask, tokens: int | None) -> None:
        for group in (self.waiting, self.running):
            if ask in group:
                group.remove(ask)
        if tokens is not None:
            self.usual += 0.1 * (tokens - self.usual)
        if ask.seat not in self.here():
            self.last.pop(ask.seat, None)
            had = self.had.pop(ask.seat)
            if not self.here():
                self.debts.clear()
                self.let_in = None
            elif had > min(self.had[seat] for seat in self.here()):
                self.debts[ask.seat] = had


def done(ask: Ask, tokens: int) -> Done:
    return Done(ask=ask.id, reply=Reply(text="", usage=Usage(tokens_new=tokens)))


@pytest.mark.parametrize("seed", range(60))
def test_the_line_takes_whom_the_plain_one_takes(seed):
    """And whoever was told that nobody must end before is taken, as long as nothing was written."""
    noise = random.Random(seed)
    places, seats = noise.randint(1, 6), "abcdef"[: noise.randint(1, 6)]
    queue, plain = line(places=places), Plain(places)
    taken, retold = 0, True
    for _ in range(250):
        what = noise.choice(["add", "add", "take", "take", "charge", "left", "put_back", "cancel"])
        running = list(queue._under_way.values())
        if what == "add":
            seat, most = noise.choice(seats), noise.choice([4, 50, 300])
            ask = make("x", seat, max_new_tokens=most)
            queue.add(ask)
            plain.add(ask)
            retold = True
        elif what == "take":
            told = {one for one in queue._waiting.values() if positions(one)[-1] == 0}
            ask = queue.take()
            assert ask is plain.take(next(queue._ticks))
            if retold:
                assert ask in told if told else ask is None
            taken += ask is not None
        elif what == "cancel" and queue._waiting:
            ask = noise.choice(list(queue._waiting.values()))
            ask.cancel()
            queue.expire(0.0)
            plain.left(ask, None)
            retold = True
        elif running:
            ask = noise.choice(running)
            if what == "charge":
                cost = noise.randint(1, 60)
                queue.charge([(ask, cost)])
                plain.charge(ask, cost)
                retold = False
            elif what == "left":
                tokens = noise.choice([None, noise.randint(1, 300)])
                queue.left(ask, *([] if tokens is None else [done(ask, tokens)]))
                plain.left(ask, tokens)
                retold = True
            elif what == "put_back" and not queue._waiting.get(queue._held):
                queue.put_back(ask)
                plain.put_back(ask)
                queue._held = ""
                queue._announce()
                retold = True
        assert {ask.id for ask in plain.waiting} == set(queue._waiting)
    assert taken > 20
    assert queue._service._left.get(0, {}) == plain.debts


def work(queue: Line, costs: dict[str, int], rounds: int, refill: int = 2) -> Counter[str]:
    """One answer after the other, each seat with work waiting; what each has had."""
    had: Counter[str] = Counter()
    for _ in range(rounds):
        for seat in costs:
            while sum(ask.seat == seat for ask in queue._waiting.values()) < refill:
                queue.add(make("x", seat))
        ask = queue.take()
        queue.charge([(ask, costs[ask.seat])])
        had[ask.seat] += costs[ask.seat]
        queue.left(ask, done(ask, costs[ask.seat] // WRITTEN))
    return had


def test_a_seat_with_short_answers_gets_as_many_tokens_as_one_with_long_ones():
    had = work(line(), {"short": 10, "long": 300}, 600)
    assert abs(had["short"] - had["long"]) <= 300


def test_turns_can_not_be_saved_up():
    """One that comes late, or was away, gets its share from then on and nothing on top."""
    queue = line()
    work(queue, {"a": 20, "b": 20}, 100)
    late = work(queue, {"a": 20, "b": 20, "late": 20}, 60)
    assert late == {"a": 400, "b": 400, "late": 400}
    queue = line()
    work(queue, {"a": 20, "b": 20}, 100)
    for ask in [ask for ask in queue._waiting.values() if ask.seat == "b"]:
        ask.cancel()
    work(queue, {"a": 20}, 100)
    back = work(queue, {"a": 20, "b": 20}, 100)
    assert abs(back["a"] - back["b"]) <= 20


@pytest.mark.parametrize("late", ["new", "long"])
@pytest.mark.parametrize("pile", [0, 20])
def test_places_that_were_free_are_nobodys_debt(late, pile):
    """Beside one long answer others had the rest of the places; who comes then has no claim on it.

    Not a new seat, nor that of the long answer, whether or not somebody was waiting.
    """
    queue, running, had = line(places=8), {}, Counter()
    long = make("x", "long", max_new_tokens=4096)
    queue.add(long)
    assert queue.take() is long

    def fill(seat: str, asks: int) -> None:
        for _ in range(asks - sum(ask.seat == seat for ask in queue._waiting.values())):
            queue.add(make("x", seat, max_new_tokens=64))

    for step in range(2400):
        after = step >= 1600
        fill("busy", 20 if after else max(pile, 7 - len(running)))
        fill(late, 20 * after)
        while (ask := queue.take()) is not None:
            running[ask] = 0
        queue.charge([(ask, WRITTEN) for ask in [long, *running]])
        for ask in list(running):
            had[ask.seat] += after
            running[ask] += 1
            if running[ask] == 64:
                del running[ask]
                queue.left(ask, done(ask, 64))
    assert had.total() == 800 * 7
    # What the long answer takes meanwhile is its seat's, too; and an answer is more than nothing.
    more = 800 * (late == "long")
    assert abs(had["busy"] - had[late] - more) <= 8 * 64


def test_what_was_had_is_not_shaken_off_by_leaving():
    """One ask at a time, each after the last one ended: no more than a seat that waits in line."""
    queue = line()
    for number in range(3):
        queue.add(make(f"b{number}", "b"))
    had: Counter[str] = Counter()
    for number in range(60):
        queue.add(make(f"a{number}", "a"))
        while (ask := queue.take()).seat == "b":
            queue.charge([(ask, 50)])
            had["b"] += 50
            queue.left(ask, done(ask, 25))
            queue.add(make("b", "b"))
        queue.charge([(ask, 50)])
        had["a"] += 50
        queue.left(ask, done(ask, 25))
    assert abs(had["a"] - had["b"]) <= 50


def test_an_answer_counts_from_its_start_so_that_none_is_let_in_many_times_at_once():
    """A seat that is behind by an answer gets one place more than the others, not all of them."""
    queue = line(places=8)
    for seat in "abcd":
        for _ in range(10):
            queue.add(make("x", seat, max_new_tokens=64))
    first = [queue.take() for _ in range(4)]
    queue.charge([(ask, 2 * 64) for ask in first if ask.seat != "a"])
    assert Counter(queue.take().seat for _ in range(4)) == Counter("abcd")
    behind = line(places=8)
    for seat in "ab":
        for _ in range(10):
            behind.add(make("x", seat, max_new_tokens=64))
    ask = behind.take()
    behind.charge([(ask, 2 * 3 * 64)])
    behind.left(ask)
    assert Counter(behind.take().seat for _ in range(8)) == {"a": 3, "b": 5}


def test_an_answer_that_begins_anew_costs_its_seat_nothing_for_the_first_time():
    queue = line(make("a", "a"), make("b", "b"))
    ask = queue.take()
    queue.charge([(ask, 1000)])
    queue.take_back()
    assert queue._service.of(0, []) == {"a": 0, "b": 0}
    assert queue.take() is ask


def test_priorities_have_counters_of_their_own():
    """Whoever has run a batch for a week is a person like others beside it."""
    queue = line(make("batch", "a", -1), places=4)
    queue.charge([(queue.take(), 1_000_000)])
    queue.add(make("b0", "b"))
    queue.charge([(queue.take(), 10)])
    queue.add(make("b1", "b"))
    queue.add(make("a0", "a"))
    assert queue.take().prompt.text == "a0"


def test_seats_that_left_are_remembered_while_that_matters_and_not_without_end():
    queue = line(make("least", "least"), places=2)
    assert queue.take().seat == "least"
    for number in range(3 * REMEMBERED):
        ask = make("x", f"visitor {number}")
        queue.add(ask)
        assert queue.take() is ask
        queue.charge([(ask, 100 + number)])
        queue.left(ask)
        assert len(queue._service._left[0]) <= REMEMBERED
    assert f"visitor {number}" in queue._service._left[0], "the last has had most"
    assert len(queue._service._here[0]) == len(queue._served) == 1
    queue.left(next(iter(queue._under_way.values())))
    assert queue._service._left == queue._service._here == {}


def test_how_long_answers_usually_are_follows_them_and_is_bounded_by_the_ask():
    service = Service()
    for _ in range(100):
        service.ended(200)
    assert service.expected(make("x", max_new_tokens=1000)) == pytest.approx(WRITTEN * 200, abs=2)
    assert service.expected(make("x", max_new_tokens=7)) == WRITTEN * 7


def test_a_worker_that_dies_over_the_end_of_an_ask_leaves_no_counter_behind(monkeypatch):
    """Else all who come later would start from it, ahead of everybody who has been served."""
    queue = line(make("x", "gone"), places=1)
    last = queue.take()
    for _ in range(3):
        queue.add(make("x", "old"))
    with monkeypatch.context() as patch:
        patch.setattr(queue, "_forget", lambda ask: sys.exit())
        with pytest.raises(SystemExit):
            queue.left(last, done(last, 1))
    queue.take_back()
    assert set(queue._service._here[0]) == {"old"} and "gone" not in queue._served
    queue.charge([(queue.take(), 500)])
    queue.add(make("x", "new"))
    assert queue._service._here[0] == {"old": 500, "new": 500}
