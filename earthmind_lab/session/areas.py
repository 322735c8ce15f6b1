"""Commands about what a session is about: AOIs, their versions, marked regions, plain pictures."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from earthmind_lab.aoi import AOI, AOILike
from earthmind_lab.errors import AOIError, EngineBusy, PromptError
from earthmind_lab.exchange import View
from earthmind_lab.recording import plain
from earthmind_lab.session import commands
from earthmind_lab.session.base import SessionBase
from earthmind_lab.session.subject import MarkedRegion, Subject
from earthmind_lab.session.tasks import LABELS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class AreaCommands(SessionBase):
    """Each holds at once."""

    def draw(self, geometry: AOILike, name: str | None = None) -> str:
        """A new AOI, which becomes the active subject.

        Args:
            geometry: In any form `AOI.from_any` takes.
            name: How to call it; default ``area 1``, ``area 2``, ...

        Returns:
            Its name.

        Raises:
            AOIError: The area can't be used, or the name is taken.
        """
        aoi = AOI.from_any(geometry)
        with self._keeper.lock:
            name = self._free("area") if name is None else name
            subject = Subject(name=name, kind="aoi", aoi=replace(aoi, name=name))
            self._keeper.commit(commands.add(self._keeper.state, subject))
        return name

    def edit(self, name: str, geometry: AOILike) -> None:
        """Another geometry for an AOI; its search, pair and talk stay with the old version.

        Raises:
            AOIError: No such AOI, or the area can't be used.
        """
        aoi = replace(AOI.from_any(geometry), name=name)
        with self._keeper.lock:
            if self.subject(name).kind == "aoi":
                self._keeper.stop(name, f"{name!r} was edited before the answer was complete.")
            self._keeper.commit(commands.edit(self._keeper.state, name, aoi))

    def restore(self, name: str, version: int) -> None:
        """Go back to an earlier geometry of an AOI, with the search, pair and talk of that time.

        Args:
            name: The AOI.
            version: Number of one of `Subject.versions`; the present geometry becomes one.

        Raises:
            AOIError: No such AOI or version.
        """
        with self._keeper.lock:
            self.subject(name)
            commands.restore(self._keeper.state, name, version)  # refuse before anything stops
            self._keeper.stop(name, f"{name!r} was changed before the answer was complete.")
            self._keeper.commit(commands.restore(self._keeper.state, name, version))

    def rename(self, name: str, new: str) -> None:
        """Another name for a subject.

        Raises:
            AOIError: There is none of this name, or the new one is taken or no name.
            EngineBusy: Something runs for it.
        """
        with self._keeper.lock:
            self.subject(name)
            kind = self._keeper.busy(name)
            if kind is not None:
                raise EngineBusy(
                    f"{name!r} is still waiting for its {LABELS[kind]}.",
                    change="wait for it, or stop it; then rename",
                )
            self._keeper.commit(commands.rename(self._keeper.state, name, new))

    def delete(self, name: str) -> None:
        """Take a subject away; undo brings everything back.

        Raises:
            AOIError: There is none of this name.
        """
        with self._keeper.lock:
            self.subject(name)
            self._keeper.stop(name, f"{name!r} was deleted before the answer was complete.")
            self._keeper.commit(commands.delete(self._keeper.state, name))

    def select(self, name: str) -> None:
        """Make a subject the active one.

        Raises:
            AOIError: There is none of this name.
        """
        with self._keeper.lock:
            self.subject(name)
            self._keeper.commit(commands.select(self._keeper.state, name))

    def open_place(self, place: str) -> str:
        """The AOI of a sample place, or the subject that came from it.

        Raises:
            SearchError: There is no such place.
        """
        from earthmind_lab.data import samples

        found = samples.place(place)
        with self._keeper.lock:
            for subject in self._keeper.state.subjects.values():
                if subject.place == found.name:
                    self.select(subject.name)
                    return subject.name
            name = self._free(found.name, bare=True)
            aoi = AOI.from_bbox(*found.bbox, name=name)
            subject = Subject(name=name, kind="aoi", aoi=aoi, place=found.name)
            self._keeper.commit(commands.add(self._keeper.state, subject, "open"))
        return name

    def open_picture(self, picture: str | Path | NDArray[np.uint8], name: str | None = None) -> str:
        """A plain picture: text and pixels, no areas.

        Args:
            picture: A file, or uint8 (H, W, 3).
            name: How to call it; default: the file's, or ``picture 1``.

        Returns:
            Its name.

        Raises:
            PromptError: It can't be read as a picture.
            AOIError: The name is taken.
        """
        from earthmind_lab.render import picture_view

        view = picture_view(picture)
        is_file = isinstance(picture, str | Path)
        where = str(Path(picture).resolve()) if is_file else self._pictures.keep(view)  # type: ignore[arg-type]
        with self._keeper.lock:
            if name is None:
                stem = Path(where).stem[:60] if is_file else ""
                name = self._free(stem, bare=True) if stem else self._free("picture")
            subject = Subject(name=name, kind="picture", picture=where)
            self._keeper.commit(commands.add(self._keeper.state, subject, "open"))
        return name

    def picture(self, name: str | None = None) -> View:
        """The pixels of a plain picture.

        Args:
            name: The subject; None = the active one.

        Raises:
            AOIError: No such subject.
            PromptError: It is no picture, or can't be read any more.
        """
        from earthmind_lab.render import picture_view

        subject = self.subject(name)
        if subject.picture is None:
            raise PromptError(f"{subject} is no picture.", change="chip() for its pixels")
        found = self._pictures.find(subject.picture)
        return picture_view(found) if isinstance(found, Path) else found

    def mark(self, geometry: AOILike, label: str = "", name: str | None = None) -> str:
        """A region that the next questions are about.

        Args:
            geometry: In any form `AOI.from_any` takes.
            label: How to call it; default ``region 1``, ``region 2``, ...
            name: The AOI; None = the active one.

        Returns:
            Its id.

        Raises:
            AOIError: It can't be used as an area, lies outside the AOI, or the subject is a
                picture.
        """
        place = AOI.from_any(geometry)
        with self._keeper.lock:
            subject = self.subject(name)
            if subject.aoi is not None and not subject.aoi.geometry.intersects(place.geometry):
                raise AOIError(
                    f"The region lies outside {subject.name!r}.", change="draw it inside the area"
                )
            held = {region.label for region in subject.regions}
            number = next(n for n in itertools.count(1) if f"region {n}" not in held)
            region = MarkedRegion(
                id=f"region-{self._keeper.state.next}",
                label=label.strip()[:80] or f"region {number}",
                geometry=plain(place.to_dict()["geometry"]),
            )
            self._keeper.commit(commands.mark(self._keeper.state, subject.name, region))
        return region.id

    def unmark(self, region: str | None = None, name: str | None = None) -> None:
        """Take a marked region away.

        Args:
            region: Its id; None = all of them.
            name: The AOI; None = the active one.

        Raises:
            AOIError: There is no such region.
        """
        with self._keeper.lock:
            subject = self.subject(name)
            self._keeper.commit(commands.unmark(self._keeper.state, subject.name, region))
