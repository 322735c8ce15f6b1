"""`make bench`: ratios measured side by side in one run; absolute times mean nothing here.

import      `import earthmind_lab` in a new process against a bare interpreter
again       a second question about a chip against the first one
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import earthmind_lab as em
from earthmind_lab.data.samples import place
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.render import render

ROUNDS = 15


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def ratio(
    name: str, one: Callable[[], object], other: Callable[[], object], *, rounds: int
) -> None:
    """Print the median of the ratio of the two, taken in turns so that a busy machine hits both."""
    found = sorted(seconds(one) / seconds(other) for _ in range(rounds))
    low, high = found[0], found[-1]
    print(f"{name}: {statistics.median(found):.2f} times ({low:.2f} to {high:.2f}, n={rounds})")


def python(code: str) -> Callable[[], object]:
    """A new interpreter that runs `code`."""
    return lambda: subprocess.run([sys.executable, "-c", code], check=True)


def asking() -> tuple[Callable[[], object], Callable[[], object]]:
    """A first and a further question about the Spanish chip."""
    spain = place("spain")
    aoi = em.AOI.from_bbox(*spain.bbox)
    views = render(em.load_chip(em.search_pairs(aoi, spain.dates)[0], aoi))
    engine = em.load_engine("nano")
    turned = iter(range(1, 1_000_000))

    def first() -> object:
        # Other pixels each time: what was seen before doesn't help.
        seen = tuple(
            type(v)(**{**vars(v), "image": (v.image // 2 + next(turned) % 100).astype("uint8")})
            for v in views
        )
        return engine.generate(Prompt(text="Is there water? Yes or no?", views=seen), Options())

    def further() -> object:
        return engine.generate(Prompt(text="Is there snow? Yes or no?", views=views), Options())

    first(), further()
    return further, first


def main() -> None:
    """Run all."""
    ratio(
        "import / bare interpreter", python("import earthmind_lab"), python("pass"), rounds=ROUNDS
    )
    further, first = asking()
    ratio("second question / first question", further, first, rounds=ROUNDS)


if __name__ == "__main__":
    main()
