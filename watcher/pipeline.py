"""One slice of scans, straight through: decode → find the ink → normalise → network → reading → picture.

It knows nothing of inbox and outbox, so that the workers, `read` and `train evaluate` all run the same.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import math
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

from watcher import model
from watcher.decode import decode
from watcher.errors import naming
from watcher.fields import rule_for
from watcher.line import has_only_cells, normalise_line
from watcher.looks import look
from watcher.names import escape, thumbnail_name
from watcher.normalise import normalise
from watcher.reading import WIDE, audited, is_alone, of_none, of_two, read_digit, read_field
from watcher.results import Reading, Row, blank, failed, now
from watcher.tasks import SEVERAL, Fault, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from watcher.config import Settings
    from watcher.contact_sheet import ContactSheets
    from watcher.decode import Page
    from watcher.fields import Rule
    from watcher.line import Line
    from watcher.normalise import Ink
    from watcher.thumbnail import Thumbnails


@dataclass(slots=True)
class Sheet:
    """One page on its way through."""

    job: Job
    page: int
    sha256: str
    stamp: tuple[int, int]
    pixels: Page | None = None
    rule: Rule | None = None
    line: Line | None = None
    field: Reading | None = None  # what it says if it is a field
    ink: Ink | None = None
    reading: Reading | None = None
    detail: str = ""
    milliseconds: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def is_wide(self) -> bool:
        """Whether the page is wider than a crop of one digit."""
        return self.pixels is not None and self.pixels.shape[1] >= WIDE * self.pixels.shape[0]

    @property
    def has_several(self) -> bool:
        """Whether its rule says that it holds several digits."""
        return self.rule is not None and self.rule.least > 1

    @property
    def has_one(self) -> bool:
        """Whether its rule says that it holds one digit."""
        return self.rule is not None and self.rule.is_digit

    @property
    def seen(self) -> Ink | Line | None:
        """What the network saw whose reading it is."""
        return self.line if self.reading is not None and self.reading.kind == "field" else self.ink

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Note how long a step took."""
        start = time.perf_counter()
        yield
        self.milliseconds[step] = (time.perf_counter() - start) * 1000


class Reader:
    """What a process keeps from slice to slice: the settings, the networks, what draws the pictures."""

    def __init__(self, settings: Settings) -> None:
        # Each worker is one of several processes: threads of its own would only fight over the processors.
        cv2.setNumThreads(1)
        self.settings = settings
        self.card, self.predict = model.load(settings.model)
        self.read_line = model.load_fields(self.card)
        self.field_threshold = self.card.field.threshold(settings.accept.max_error) if self.card.field else math.inf
        self.threshold = self.card.digit.threshold(settings.accept.max_error)
        self.doubts = self.card.doubts(settings.accept.max_error)

    @cached_property
    def thumbnails(self) -> Thumbnails:
        """Draws the thumbnails; matplotlib is loaded for it when it is first asked for."""
        from watcher.thumbnail import Thumbnails  # noqa: PLC0415 - takes longer to load than all the rest of a worker

        return Thumbnails()

    @cached_property
    def contact_sheets(self) -> ContactSheets:
        """Draws the contact sheets; loaded as late."""
        from watcher.contact_sheet import ContactSheets  # noqa: PLC0415

        return ContactSheets()

    def warm(self) -> None:
        """Load what draws the pictures that are wanted."""
        if self.settings.thumbnails != "none":
            _ = self.thumbnails
        if self.settings.contact_sheet:
            _ = self.contact_sheets

    def read(
        self, jobs: Sequence[Job], pictures: Path | None, at: Callable[[int], object] = lambda _: None
    ) -> list[Row]:
        """Read scans and draw their thumbnails under `pictures`; one row a page, in the order of `jobs`.

        `at` is told the index of the job in hand, or SEVERAL where a step serves more than one. An OSError is the
        environment's fault, not a scan's, and is raised.
        """
        rows: list[Row] = []
        waiting: list[Sheet] = []
        pixels = 0
        for index, job in enumerate(jobs):
            at(index)
            for sheet in self._open(job):
                waiting.append(sheet)
                pixels += sheet.pixels.size if sheet.pixels is not None else 0
                if pixels > self.settings.limits.pixels:  # large pages are not hoarded
                    rows += self._finish(waiting, pictures)
                    waiting, pixels = [], 0
        at(SEVERAL)
        return rows + self._finish(waiting, pictures)

    def _open(self, job: Job) -> Iterator[Sheet]:
        start = time.perf_counter()
        data, sha256, stamp = read_whole(job.path, self.settings.limits.bytes, job.fault)
        pages: Iterable[Page | Fault] = [data] if isinstance(data, Fault) else decode(data, self.settings.limits)
        for number, page in enumerate(pages, start=1):
            sheet = Sheet(job, number, sha256, stamp)
            sheet.milliseconds["decode"] = (time.perf_counter() - start) * 1000
            if isinstance(page, Fault):
                sheet.reading, sheet.detail = failed(page.reason), page.detail
            else:
                sheet.pixels = page
                sheet.rule = rule_for(job.name, self.settings.fields)
                if sheet.is_wide or sheet.has_several:
                    self._read_field(sheet, page)
                if sheet.reading is None:
                    with sheet.timed("normalise"):
                        sheet.ink = normalise(page)
                    if sheet.ink is None:
                        if sheet.field is None:  # what is small on its page is found as a line alone
                            self._read_field(sheet, page)
                        sheet.reading = of_none(sheet.field)
            yield sheet
            start = time.perf_counter()

    def _read_field(self, sheet: Sheet, page: Page) -> None:
        """Read a page as a line of digits; it has its reading where it can be nothing else, else a candidate for it."""
        if self.read_line is None:
            return
        with sheet.timed("line"):
            sheet.line = normalise_line(page)
        if sheet.line is None:
            sheet.field = blank()
            if has_only_cells(page):  # of their walls the digit network would make something
                sheet.reading = sheet.field
            return
        with sheet.timed("read"):
            least = 0 if sheet.ink is None else 2  # else the digit network reads it
            steps, found = look(sheet.line, self.read_line, self.predict, least=least)
            if found:
                judge = self.card.calibration("field")
                # Under a rule of one digit the line only tells whether there are more.
                rule = None if sheet.has_one else sheet.rule
                sheet.field = read_field(steps, found, sheet.line, judge, self.field_threshold, rule=rule)
        if sheet.has_one or not sheet.field:
            return
        if sheet.has_several or (sheet.is_wide and len(sheet.field.value) > 1):
            sheet.reading = sheet.field

    def _finish(self, sheets: Sequence[Sheet], pictures: Path | None) -> list[Row]:
        self._predict([sheet for sheet in sheets if sheet.ink is not None])
        return [self._row(sheet, pictures) for sheet in sheets]

    def _predict(self, sheets: Sequence[Sheet]) -> None:
        if not sheets:
            return
        start = time.perf_counter()
        images = [sheet.ink.image for sheet in sheets if sheet.ink is not None]
        probabilities = self.predict(np.stack(images))
        share = (time.perf_counter() - start) * 1000 / len(sheets)
        for sheet, row in zip(sheets, probabilities, strict=True):
            assert sheet.ink is not None
            digit = read_digit(
                row.tolist(),
                self.card.classes,
                sheet.ink.box,
                self.card.digit,
                self.threshold,
                clipped=sheet.ink.clipped,
                paired=sheet.ink.paired and not (sheet.is_wide or sheet.has_one),
                rule=sheet.rule,
            )
            assert sheet.pixels is not None
            sheet.milliseconds["predict"] = share
            if not (sheet.is_wide or sheet.has_several or is_alone(digit, sheet.ink)):
                self._read_field(sheet, sheet.pixels)
            shape = sheet.pixels.shape
            sheet.reading = of_two(digit, sheet.field, shape, has_one=sheet.has_one) if sheet.field else digit

    def _row(self, sheet: Sheet, pictures: Path | None) -> Row:
        assert sheet.reading is not None
        reading = audited(sheet.reading, sheet.sha256, sheet.page, self.settings.audit)
        name, tile, shown = "", b"", escape(sheet.job.name)
        wanted = self.settings.thumbnails
        with sheet.timed("draw"):
            if pictures is not None and (wanted == "all" or (wanted == "review" and reading.status != "accepted")):
                name = thumbnail_name(sheet.job.name, sheet.page)
                write(pictures, name, self.thumbnails.draw(sheet.pixels, sheet.seen, reading, shown, sheet.page))
            if pictures is not None and self.settings.contact_sheet:
                tile = self.contact_sheets.tile(sheet.pixels, reading, shown, sheet.page)
        height, width = sheet.pixels.shape[:2] if sheet.pixels is not None else (0, 0)
        return Row(
            name=sheet.job.name,
            page=sheet.page,
            reading=reading,
            sha256=sheet.sha256,
            stamp=sheet.stamp,
            width=width,
            height=height,
            thumbnail=name,
            read_at=now(),
            field=sheet.rule.name if sheet.rule else "",
            detail=sheet.detail,
            milliseconds=sheet.milliseconds,
            tile=tile,
        )


def read_whole(path: str, limit: int, fault: Fault | None = None) -> tuple[bytes | Fault, str, tuple[int, int]]:
    """The bytes of a file that nobody writes to, or why they are not read; their SHA-256; their size and date (ns).

    What is too much is not read, and so has no SHA-256: of a film that lies there by mistake that takes minutes. Where
    a `fault` is known, the bytes are hashed and never held: they may have been what was too much.
    Raises OSError; EAGAIN where the file changed meanwhile, as a rename does not stop a writer that has it open.
    """
    with naming(path), open(path, "rb") as file:
        before = os.fstat(file.fileno())
        if before.st_size > limit:
            large = Fault("too_large", f"{before.st_size} bytes, limits.bytes is {limit}")
            return fault or large, "", (before.st_size, before.st_mtime_ns)
        data = fault or file.read()
        sha256 = hashlib.file_digest(file, "sha256") if isinstance(data, Fault) else hashlib.sha256(data)
        after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (
            after.st_size,
            after.st_mtime_ns,
        ) or file.tell() != after.st_size:
            raise BlockingIOError(errno.EAGAIN, "is still being written", path)
    return data, sha256.hexdigest(), (after.st_size, after.st_mtime_ns)


def write(folder: Path, name: str, data: bytes) -> None:
    """Write a file under a folder that may not be there yet, nor those in it; what holds the folder has to be.

    Raises OSError: a stage that has gone must not come back, in the place of one that is mounted elsewhere.
    """
    path = folder / name
    with naming(path):
        try:
            path.write_bytes(data)
        except FileNotFoundError:
            folder.mkdir(exist_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
