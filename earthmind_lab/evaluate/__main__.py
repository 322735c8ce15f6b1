"""`python -m earthmind_lab.evaluate [MODEL]`: the table of held-out scenes, as Markdown."""

from __future__ import annotations

import sys

from earthmind_lab.engine.loading import load_engine
from earthmind_lab.errors import EarthMindError
from earthmind_lab.evaluate.table import held_out, markdown, rows


def main(arguments: list[str]) -> int:
    """Print the table of a model, `nano` by default; 2 and a message where it can't be had."""
    try:
        engine = load_engine(arguments[0] if arguments else "nano")
        table = markdown(rows(engine, held_out()))
    except EarthMindError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{engine.name} {engine.revision}\n\n{table}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
