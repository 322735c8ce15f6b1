"""`python -m earthmind_lab.evaluate [MODEL]`: both tasks on the embedded scenes, as Markdown.

`earthmind evaluate presence|landcover` does the same for any catalog.
"""

from __future__ import annotations

import sys

from earthmind_lab.engine.loading import load_engine
from earthmind_lab.errors import EarthMindError
from earthmind_lab.evaluate.landcover import evaluate_landcover
from earthmind_lab.evaluate.presence import evaluate_presence


def main(arguments: list[str]) -> int:
    """Print the tables of a model, `nano` by default; 2 and a message where it can't be had."""
    try:
        engine = load_engine(arguments[0] if arguments else "nano")
        tables = (evaluate_presence(engine), evaluate_landcover(engine))
    except EarthMindError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n\n".join(table.markdown() for table in tables))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
