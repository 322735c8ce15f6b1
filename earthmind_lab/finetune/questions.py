"""What questions and answers read like where a data set brings masks and descriptions only.

In the manner of the published training: several phrasings, with and without a stop at the end, and
short answers around one [SEG]. Which phrasing an example gets follows from its id and the seed, so
that runs repeat.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TypeVar

from earthmind_lab.finetune.source import wrong

T = TypeVar("T")
SEG = "[SEG]"
"""What stands for a mask in an answer."""
SEGMENT = tuple(
    question.format(name="{name}", stop=stop)
    for stop in (".", "")
    for question in (
        "Segment {name}{stop}",
        "Please segment {name} in this image{stop}",
        "Mark {name} in this picture{stop}",
        "What is {name} in this image? Please respond with a segmentation mask{stop}",
        "Where is {name} in this picture? Please respond with a segmentation mask{stop}",
        "Please find and segment {name} in this image{stop}",
    )
)
"""``{name}``: what to segment."""
SEGMENTED = ("[SEG].", "It is [SEG].", "Sure, [SEG].", "Sure, it is [SEG].", "Here it is: [SEG].")
DESCRIBE = (
    "Describe {region} in detail.",
    "What is {region}?",
    "What can be seen in {region}?",
    "What do you know about {region} in this picture?",
    "Please give me a detailed description of {region}.",
    "Could you describe the area marked as {region}?",
    "Tell me about the part of the image that {region} marks.",
    "What does {region} in this image look like?",
    "Describe the region in the picture marked by {region}.",
    "What is going on in {region}?",
)
"""``{region}``: region1, region2, …"""
_PICTURE = re.compile(r"[ \t]*<(?:image|video)>[ \t]*\n?")
_REGION = re.compile(r"<region(\d*)>")


def pick(options: Sequence[T], *key: object) -> T:
    """One of several, the same for the same key in every run.

    >>> pick("abc", "picture 7", 0) == pick("abc", "picture 7", 0)
    True
    """
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode("utf-8", "replace")).digest()
    return options[int.from_bytes(digest[:8], "big") % len(options)]


def unmarked(text: str) -> tuple[str, int]:
    """Text without its picture marks, and how many there were.

    The model's own template puts pictures before the first question, wherever the marks stand.

    >>> unmarked("<image> What is this?")
    ('What is this?', 1)
    """
    plain, count = _PICTURE.subn("", text)
    return plain.strip(), count


def with_regions(text: str, count: int, where: str) -> str:
    """Text whose region marks are written as the model's prompt numbers them.

    ``<region2>`` becomes ``region2``, the n-th ``<region>`` becomes ``region`` n.

    Raises:
        LoadError: A mark beyond the regions that there are.

    >>> with_regions("Compare <region> with <region>.", 2, "")
    'Compare region1 with region2.'
    """
    seen = 0

    def number(found: re.Match[str]) -> str:
        nonlocal seen
        seen += 1
        told = int(found[1]) if found[1] else seen
        if not 1 <= told <= count:
            raise wrong(
                where, f"the text marks region {told}.", found=f"{count} regions",
                change="one outline per mark under 'regions'",
            )  # fmt: skip
        return f"region{told}"

    return _REGION.sub(number, text)
