"""What one request, one seat and all of them together may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What requests and seats may take."""

    body_bytes: int = 64 << 20
    """Of one request."""
    bodies_bytes: int = 1 << 30
    """Of all requests that are being read or answered."""
    words_bytes: int = 4 << 20
    """Of the JSON of one request, its pictures left out: what was said, and the masks of earlier
    answers that a client gives back."""
    signs: int = 400_000
    """Quotes, commas and brackets in that JSON: each value that is read takes some."""
    decoded_bytes: int = 2 << 30
    """Of the pictures of all asks under way, decoded, three per pixel: a file of 100 kB may hold
    64 million pixels."""
    head_seconds: float = 30.0
    """In which the head of a request must have come, on each connection; and so the longest pause
    between two."""
    body_seconds: float = 60.0
    """In which a body must have come."""
    ask_seconds: float = 600.0
    """In which an answer must be complete."""
    asks_per_seat: int = 32
    """Under way at once, waiting ones included."""
    asks_per_token: int = 256
    """The same of all seats of one token: clients name their seats themselves."""
    characters: int = 200_000
    """Of all texts of one ask, history included."""
    new_tokens: int = 4096
    """Longest answer that may be asked for."""
    pictures: int = 16
    """In one question."""
    pixels: int = 64_000_000
    """Of all pictures of one question."""
    alive_seconds: float = 5.0
    """Between signs of life on a stream that has nothing to say."""
