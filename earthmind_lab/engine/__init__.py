"""Engines: a model that stays loaded and answers prompts, one ask after the other."""

from earthmind_lab.engine.base import Backend, Capabilities, Engine, Handle, seen_gsd
from earthmind_lab.engine.loading import load_engine
from earthmind_lab.engine.resident import ResidentEngine

__all__ = [
    "Backend",
    "Capabilities",
    "Engine",
    "Handle",
    "ResidentEngine",
    "load_engine",
    "seen_gsd",
]
