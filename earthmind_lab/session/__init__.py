"""Sessions: named subjects with their searches, chips and talks, and a log with undo.

session   Session, the one object behind every face
subject   what it holds, as values: subjects, pair rows, turns, notes
commands  what changes it: plain data, each with what takes it back
tasks     work under way: searching, loading, asking
keeper    state, running tasks and file behind one lock
shelf     chips and pairs in memory, answers as turns
queries   search arguments as plain data
notifier  telling listeners, in order, on a thread of its own
file      one JSON file per session, written whole or not at all
"""

from earthmind_lab.session.commands import Command
from earthmind_lab.session.session import Session
from earthmind_lab.session.subject import Note, PairRow, SaidTurn, Subject
from earthmind_lab.session.tasks import Task

__all__ = ["Command", "Note", "PairRow", "SaidTurn", "Session", "Subject", "Task"]
