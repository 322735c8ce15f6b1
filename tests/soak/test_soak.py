"""A few seconds of the soak, with a seed of its own."""

from __future__ import annotations

from collections import Counter

from tests.soak.soak import Minute, Report, Soak, verdict


def test_a_short_soak_goes_well(capsys) -> None:
    soak = Soak(seed=3)
    report = soak.run(1, seconds_each=8.0)
    assert verdict(report) == []
    (minute,) = report.minutes
    assert minute.counts["asked"] > 0 and minute.counts["refused"] > 0
    assert "main memory: +0.0 %" in capsys.readouterr().out


def test_growth_and_faults_are_told() -> None:
    held = {"main": 100, "device": 0}
    minutes = [
        Minute(n, Counter(), {**held, "main": size}) for n, size in enumerate((90, 100, 106), 1)
    ]
    report = Report(minutes=minutes, warm=2, faults=["a seat hangs"])
    assert verdict(report) == ["a seat hangs", "main memory grew by 6.0 %"]
    minutes[2].memory["main"] = 105
    assert verdict(report) == ["a seat hangs"]


def grown(sizes: list[int]) -> float:
    minutes = [Minute(n, Counter(), {"main": size}) for n, size in enumerate(sizes, 1)]
    return Report(minutes=minutes).growth("main")


def test_memory_that_swings_has_not_grown() -> None:
    swing = [100, 93, 106, 94, 105, 99, 95, 107, 98, 101, 94, 107]
    assert abs(grown(swing)) <= 0.05 < swing[-1] / swing[0] - 1
    assert grown([size + minute for minute, size in enumerate(swing)]) > 0.05
