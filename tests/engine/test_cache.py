from __future__ import annotations

from earthmind_lab.engine.base import Kept
from earthmind_lab.engine.cache import ByteCache


def test_what_was_used_longest_ago_goes_first():
    cache = ByteCache(limit=10)
    for name in "abc":
        cache.put("k", name, name, nbytes=3)
    assert cache.get("k", "a") == "a"
    cache.put("k", "d", "d", nbytes=3)
    assert [key for key, _ in cache.items("k")] == ["c", "a", "d"]
    assert cache.nbytes == 9


def test_one_entry_over_the_limit_is_not_kept_and_drops_nothing():
    cache = ByteCache(limit=10)
    cache.put("k", "a", 1, nbytes=10)
    cache.put("k", "b", 2, nbytes=11)
    assert cache.get("k", "a") == 1
    assert cache.get("k", "b") is None


def test_a_lower_limit_holds_from_the_next_call_on():
    for call in (
        lambda cache: cache.get("k", "a"),
        lambda cache: list(cache.items("k")),
        lambda cache: cache.put("k", "large", 0, nbytes=99),
    ):
        for limit, left in ((7, ["b", "c"]), (0, [])):
            cache = ByteCache(limit=10)
            for name in "abc":
                cache.put("k", name, name, nbytes=3)
            cache.limit = limit
            call(cache)
            assert [key for key, _ in cache.items("k")] == left
            assert cache.nbytes == cache.kept()["k"].nbytes == 3 * len(left)
    cache = ByteCache(limit=10)
    cache.put("k", "a", 1, nbytes=3)
    cache.limit = 0
    assert cache.get("k", "a") is None


def test_replacing_counts_once_and_kinds_are_apart():
    cache = ByteCache(limit=10)
    cache.put("k", "a", 1, nbytes=4)
    cache.put("k", "a", 2, nbytes=5)
    cache.put("other", "a", 3, nbytes=5)
    assert (cache.get("k", "a"), cache.get("other", "a"), cache.nbytes) == (2, 3, 10)
    cache.drop("k", "a")
    cache.drop("k", "a")
    assert cache.nbytes == 5
    cache.clear()
    assert (len(cache), cache.nbytes) == (0, 0)


def test_what_is_kept_and_how_often_it_was_found():
    cache = ByteCache(limit=10)
    cache.put("tokens", "a", 1, nbytes=4)
    cache.put("sam", "a", 2, nbytes=5)
    for key in ("a", "b", "a"):
        cache.get("tokens", key)
    before = cache.kept()
    assert before["tokens"] == Kept(entries=1, nbytes=4, hits=2, misses=1)
    cache.put("sam", "b", 3, nbytes=5)  # drops the older one of its kind
    assert cache.get("sam", "a") is None
    assert cache.kept()["sam"] == Kept(entries=1, nbytes=5, hits=0, misses=1)
    cache.clear()
    assert cache.kept()["tokens"] == Kept(entries=0, nbytes=0, hits=2, misses=1)
    assert before["tokens"].entries == 1, "what was handed out stays"
    assert sum(kept.nbytes for kept in cache.kept().values()) == cache.nbytes == 0
