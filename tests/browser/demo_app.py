"""The demo with a deterministic engine, for tests: ``python -m tests.browser.demo_app PORT``.

The page, the guard and the sessions are the real ones; only who answers is not.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from earthmind_lab.demo import build, launch_options
from earthmind_lab.demo_visit import Visit
from earthmind_lab.errors import Cancelled, EarthMindError
from earthmind_lab.exchange import Done, Event, Failed, Options, Prompt, Queued, Token
from earthmind_lab.session import Session
from earthmind_lab.visitors import Visitors
from tests.stand_in_engine import NOTICE, StandInEngine, StandInHandle, square

HOSTILE = (
    "<img src=x onerror=\"window.hit='text'\"><script>window.hit='script'</script>"
    " [a](javascript:alert(1)) ![b](https://example.org/pixel.png) **not bold** $$x$$"
    " ${window.hit='template'} {{value}} {{{value}}}"
)
LABEL = '<img src=x onerror="window.hit=1">'
ENDLESS = "Count for ever."
TEXTS = {"Say something bad.": HOSTILE}
MASKS = {
    "water": lambda shape: square(shape, (0, shape[0] // 2, 0, shape[1])),
    "trees": lambda shape: square(shape, (shape[0] // 2, shape[0], 0, shape[1])),
    LABEL: lambda shape: square(shape, (0, 20, 0, 20)),
}


class Endless(StandInHandle):
    """Counts until it is stopped."""

    def events(self) -> Iterator[Event]:
        yield Queued(ask=self.id, position=0)
        number = 0
        while not self._cancelled.wait(0.03):
            number += 1
            yield Token(ask=self.id, text=f"{number}\n")
        yield Failed(ask=self.id, error=Cancelled("The ask was stopped."))

    def result(self, timeout: float | None = None):
        self._cancelled.wait()
        raise Cancelled("The ask was stopped.")


class Words(StandInHandle):
    """Gives its words one by one."""

    def events(self) -> Iterator[Event]:
        yield Queued(ask=self.id, position=0)
        try:
            reply = self.result()
        except EarthMindError as error:
            yield Failed(ask=self.id, error=error)
            return
        for word in reply.text.split():
            yield Token(ask=self.id, text=word + " ")
            time.sleep(0.02)  # a model's pace
        yield Done(ask=self.id, reply=reply)


class Engine(StandInEngine):
    def submit(self, prompt: Prompt, options: Options | None = None) -> StandInHandle:
        self.prompts.append(prompt)
        kind = Endless if prompt.text == ENDLESS else Words
        return kind(f"{len(self.prompts)}", lambda: self._reply(prompt), self._gate)  # type: ignore[arg-type]


class Told(Visit):
    """Says when it ends."""

    def close(self) -> None:
        super().close()
        print("A visitor left.", flush=True)  # noqa: T201


def main() -> None:
    engine = Engine(MASKS, TEXTS)
    visitors: Visitors[Visit] = Visitors(lambda: Told(Session(engine=engine)))
    page = build(visitors, NOTICE)
    _, url, _ = page.launch(
        server_name="127.0.0.1", server_port=int(sys.argv[1]), prevent_thread_lock=True,
        **launch_options(visitors),
    )  # fmt: skip
    print(f"Listening on {url}", flush=True)  # noqa: T201
    page.block_thread()


if __name__ == "__main__":
    main()
