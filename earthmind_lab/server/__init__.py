"""One engine behind HTTP: our own binary route, an OpenAI-compatible one, health and metrics.

    create_app(engine, token="…")     the ASGI app over any `Engine`
    serve(model="nano", port=8000)    the app on a port or socket until it is stopped

Only pixels and words come in: no path and no address in a request is ever opened, an ask lives on
the connection that asked it and has no name by which another could reach it, and whoever has no
token gets no further than ``/health``.
"""

from earthmind_lab.server.app import create_app
from earthmind_lab.server.limits import Limits
from earthmind_lab.server.run import serve

__all__ = ["Limits", "create_app", "serve"]
