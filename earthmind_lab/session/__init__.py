"""Sessions: named subjects with their searches, chips and talks, and a log with undo.

session   Session, the one object behind every face; its commands by what they are about:
areas       AOIs with their versions, marked regions, plain pictures
files       files of the user's own
pairs       searching, looking at the candidates, choosing
talks       asking, asking again, branches
objects     cutting masks elsewhere, selecting an object, answers from elsewhere
keeping     files, references, points to label, a notebook, a replay
base        what these stand on
subject   what it holds, as values: subjects, pair rows, turns, marked regions, notes
commands  what changes it: plain data, each with what takes it back; talk_commands for the talk
tasks     work under way: searching, loading, asking, replaying
keeper    state, running tasks and file behind one lock
shelf     chips, candidates and quick-looks in memory, answers as turns
scene_facts   what a table of pairs says of a scene
answers   answers in memory, with their probabilities
pictures  plain pictures, by path or content
own_files    what was said of own files, and whether they are still the same
kept_files   copies of files that came from a browser
queries   search arguments as plain data
notifier  telling listeners, in order, on a thread of its own
file      one JSON file per session, written whole or not at all
"""

from earthmind_lab.session.commands import Command
from earthmind_lab.session.objects import Selected
from earthmind_lab.session.session import Session
from earthmind_lab.session.subject import MarkedRegion, Note, PairRow, SaidTurn, Subject
from earthmind_lab.session.tasks import Task

__all__ = [
    "Command",
    "MarkedRegion",
    "Note",
    "PairRow",
    "SaidTurn",
    "Selected",
    "Session",
    "Subject",
    "Task",
]
