"""The demo: a web page over one `Session` per visitor and one model for all. ``earthmind demo``.

    serve(port=7860)     the page, on this machine only, until it is stopped
    python -m earthmind_lab.demo --port 7860

Nothing leaves the machine: no share link, no analytics, no font from elsewhere. Nothing of a
visitor has an address that another could open (`visitors`). `demo_visit` does what is clicked.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from socket import create_server
from tempfile import TemporaryDirectory
from typing import Any

from earthmind_lab import demo_visit as visit
from earthmind_lab.data.samples import places
from earthmind_lab.demo_picture import CSS, SWIPE, talk
from earthmind_lab.demo_visit import Shown, Visit
from earthmind_lab.errors import EarthMindError
from earthmind_lab.session import Session
from earthmind_lab.visitors import Guard, Visitors

HOST, PORT, NANO = "127.0.0.1", 7860, "nano"
MAX_UPLOAD = "20mb"
AT_ONCE, WAITING = 16, 64
"""Clicks under way per button, and waiting; the questions among them queue at the one model."""
FORGET_S = 300
"""Seconds after which uploads are deleted; they are read at once and never served."""
EXAMPLES = ("Segment the water.", "Describe the scene.", "What covers most of this place?")
Handler = Callable[..., Iterator[Shown]]


def build(visitors: Visitors[Visit], notice: str = "") -> Any:
    """The page.

    Args:
        visitors: Gives each page its session.
        notice: What to know about the model.

    Returns:
        `gradio.Blocks`, not launched; `launch_options` go with it.

    Raises:
        EarthMindError: Gradio isn't installed.
    """
    gr = _gradio()
    with gr.Blocks(
        title="EarthMind lab", analytics_enabled=False, delete_cache=(FORGET_S, FORGET_S)
    ) as page:
        parts = _layout(gr, notice)

        def on(listen: Any, run: Handler, *inputs: str, **how: Any) -> None:
            listen(
                _handler(gr, visitors, parts, run), [parts[name] for name in inputs],
                list(parts.values()), show_progress="hidden", api_visibility="private", **how,
            )  # fmt: skip

        on(page.load, visit.start)
        on(parts["place"].input, visit.choose_place, "place")
        on(parts["pairs"].input, visit.choose_pair, "pairs")
        on(parts["upload"].upload, visit.upload, "upload")
        asked = partial(gr.on, [parts["ask"].click, parts["question"].submit])
        on(asked, visit.ask, "question", trigger_mode="once")
        on(parts["stop"].click, visit.stop)
        page.unload(_asked(gr, lambda request: visitors.leave(request.session_hash)))
    return page.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE, api_open=False)


def launch_options(visitors: Visitors[Visit]) -> dict[str, Any]:
    """What `build`'s page must be launched with; the guard above all."""
    from starlette.middleware import Middleware

    gr = _gradio()
    theme = gr.themes.Soft(primary_hue="sky", font=["system-ui"], font_mono=["ui-monospace"])
    return {
        "app_kwargs": {"middleware": [Middleware(Guard, visitors=visitors)]},
        "max_file_size": MAX_UPLOAD, "share": False, "show_error": False, "ssr_mode": False,
        "enable_monitoring": False, "mcp_server": False, "pwa": False, "run_history": False,
        "footer_links": [], "quiet": True, "theme": theme, "css": CSS,
    }  # fmt: skip


def serve(*, host: str = HOST, port: int = PORT, browser: bool = False, model: str = NANO) -> None:
    """Load the model, serve the page, and print its address; returns after Ctrl-C.

    Args:
        host: Address to listen on; another than loopback lets others in.
        port: Port to listen on.
        browser: Whether to open a browser.
        model: Name or folder of the model.

    Raises:
        EarthMindError: No Gradio, no model, or the port is taken.
    """
    from earthmind_lab.engine.loading import load_engine

    # Nothing is loaded in vain.
    _gradio()
    with _served_on(port), create_server((host, port)):
        pass
    engine = load_engine(model)
    uploads = TemporaryDirectory(prefix="earthmind-demo-")  # no other user of the machine reads it
    os.environ["GRADIO_TEMP_DIR"] = uploads.name
    visitors = Visitors(lambda: Visit(Session(engine=engine)))
    page = build(visitors, engine.capabilities.notice)
    try:
        with _served_on(port):
            _, url, _ = page.launch(
                server_name=host, server_port=port, inbrowser=browser, prevent_thread_lock=True,
                **launch_options(visitors),
            )  # fmt: skip
        print(f"EarthMind lab's demo: {url} (Ctrl-C ends it)", flush=True)  # noqa: T201
        page.block_thread()
    except KeyboardInterrupt:
        pass  # Ctrl-C before Gradio waits for it ends the page in the same way
    finally:
        visitors.close()
        page.close()
        uploads.cleanup()


@contextmanager
def _served_on(port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EarthMindError(
            f"The page can't be served on port {port}.", found=str(error), change="another --port"
        ) from error


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m earthmind_lab.demo``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m earthmind_lab.demo")
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--model", default=NANO)
    try:
        serve(**vars(parser.parse_args(argv)))
    except EarthMindError as error:
        sys.stderr.write(f"earthmind demo: {error}\n")
        return 2
    return 0


def _gradio() -> Any:
    """Gradio; it reads at its import that it must not call home."""
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    try:
        import gradio
    except ImportError as error:
        raise EarthMindError(
            "The demo needs Gradio.", found=str(error), change="pip install 'earthmind_lab[demo]'"
        ) from error
    return gradio


def _layout(gr: Any, notice: str) -> dict[str, Any]:
    """Parts of the page by name."""
    said: dict[str, Any] = {"interactive": False, "max_lines": 20}
    p: dict[str, Any] = {}
    gr.Markdown("# EarthMind lab\nAsk about the Earth as optical and radar satellites see it.")
    with gr.Row():
        with gr.Column(scale=3):
            with gr.Row(equal_height=True):
                choices = [(each.title, each.name) for each in places()]
                p["place"] = gr.Dropdown(choices, value=None, label="A place", scale=4)
                p["upload"] = gr.UploadButton("… or a picture", file_types=["image"], scale=1)
            p["pairs"] = gr.Dropdown([], label="Pair of scenes", visible=False)
            p["seen"] = gr.HTML(js_on_load=SWIPE, min_height=120)
            p["why"] = gr.Textbox(label="What can be learned here", **said)
            p["reasons"] = gr.Textbox(label="Why this pair", visible=False, **said)
        with gr.Column(scale=2):
            p["talk"] = gr.HTML(talk([]), max_height=420, autoscroll=True)
            p["status"] = gr.Textbox(label="State", **said)
            p["question"] = gr.Textbox(label="Question", placeholder=EXAMPLES[0], max_length=2000)
            with gr.Row():
                p["ask"] = gr.Button("Ask", variant="primary")
                p["stop"] = gr.Button("Stop", variant="stop")
            gr.Examples([[each] for each in EXAMPLES], p["question"], cache_examples=False)
            p["evidence"] = gr.Textbox(label="Evidence: what the pixels say", **said)
            p["file"] = gr.HTML()
            p["notice"] = gr.Textbox(notice, label="About the model", **said)
    return p


def _handler(gr: Any, visitors: Visitors[Visit], parts: dict[str, Any], run: Handler) -> Any:
    """A visit's handler as Gradio calls it."""

    def handler(request: Any, *values: Any) -> Iterator[dict[Any, Any]]:
        mine = visitors.session(request.session_hash)
        for shown in visit.told(mine, run(mine, *values)):
            yield {parts[name]: gr.update(**new) for name, new in shown.items() if new}

    return _asked(gr, handler)


def _asked(gr: Any, run: Any) -> Any:
    """Gradio hands over who asks where it sees its own type at the argument."""
    run.__annotations__["request"] = gr.Request
    return run


if __name__ == "__main__":
    sys.exit(main())
