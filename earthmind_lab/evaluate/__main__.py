"""`python -m earthmind_lab.evaluate [MODEL]`: the table of held-out scenes, as Markdown."""

from __future__ import annotations

import sys

from earthmind_lab.engine.loading import load_engine
from earthmind_lab.evaluate.table import held_out, markdown, rows


def main(arguments: list[str]) -> None:
    """Print the table of a model, `nano` by default."""
    engine = load_engine(arguments[0] if arguments else "nano")
    print(f"{engine.name} {engine.revision}\n")
    print(markdown(rows(engine, held_out())))


if __name__ == "__main__":
    main(sys.argv[1:])
