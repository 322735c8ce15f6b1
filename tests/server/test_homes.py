"""Which replica a conversation belongs to, without any replica."""

from __future__ import annotations

from collections import Counter

from earthmind_lab.engine.base import Kept, Stats
from earthmind_lab.exchange import Prompt, Turn
from earthmind_lab.server.homes import Homes, conversation
from earthmind_lab.server.replica import summed
from tests.server.scripted import view


def test_a_conversation_is_its_pictures_else_its_seat():
    first = Prompt(text="Where is water?", views=(view(seed=1),))
    history = (Turn(question="Where is water?", reply="There."),)
    later = Prompt(text="How large is it?", views=(view(seed=1),), history=history)
    other = Prompt(text="Where is water?", views=(view(seed=2),))
    assert conversation(first, "ann") == conversation(later, "bob")
    assert conversation(first, "ann") != conversation(other, "ann")
    blind = Prompt(text="Hello.")
    assert conversation(blind, "ann") != conversation(blind, "bob")


def test_conversations_are_spread_evenly_and_stay():
    homes, replicas = Homes(), ["a", "b", "c"]
    first = {key: homes.rank(key, replicas)[0] for key in map(str, range(30))}
    assert Counter(first.values()) == {"a": 10, "b": 10, "c": 10}
    assert {key: homes.rank(key, replicas)[0] for key in first} == first


def test_a_dead_replica_hands_its_conversations_on_and_no_other_moves():
    homes = Homes()
    first = {key: homes.rank(key, ["a", "b", "c"])[0] for key in map(str, range(30))}
    later = {key: homes.rank(key, ["a", "c"])[0] for key in first}
    assert {key for key in first if later[key] != first[key]} == {
        key for key, home in first.items() if home == "b"
    }
    assert Counter(later.values()) == {"a": 15, "c": 15}


def test_a_new_replica_gets_the_new_conversations():
    homes = Homes()
    for key in "pqrs":
        homes.rank(key, ["a"])
    assert [homes.rank(key, ["a", "b"])[0] for key in "tuvw"] == ["b"] * 4


def test_the_overflow_goes_to_whoever_has_fewest():
    homes = Homes()
    for key in "pqrs":
        homes.rank(key, ["a", "b"])
    assert homes.rank("p", ["a", "b", "c"]) == ["a", "c", "b"]


def test_the_oldest_is_forgotten():
    homes = Homes(most=2)
    for key in "pqr":
        homes.rank(key, ["a", "b"])
    homes.rank("p", ["a", "b"])
    assert len(homes._homes) == 2 and "q" not in homes._homes


def test_visits_say_where_asks_went():
    homes = Homes()
    for replica in ("a", "a", "b", "b"):
        homes.came("p", replica)
    homes.came("q", "a")
    assert homes.visits == {"first": 2, "home": 2, "away": 1}


def test_stats_of_several_are_summed():
    one = Stats(running=1, done=2, kept={"sam": Kept(entries=1, nbytes=8, hits=3)})
    two = Stats(waiting=4, kept={"sam": Kept(nbytes=2, misses=1), "read": Kept(hits=5)})
    both = summed([one, two])
    assert (both.running, both.waiting, both.done) == (1, 4, 2)
    assert both.kept == {
        "sam": Kept(entries=1, nbytes=10, hits=3, misses=1), "read": Kept(hits=5)
    }  # fmt: skip
    assert summed([]) == Stats()
