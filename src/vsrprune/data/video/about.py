"""What a video's file says beside its pictures and sound: titles, languages, marks of tracks, chapters."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

# What a container says of itself, which is untrue of another.
TECHNICAL = ("major_brand", "minor_version", "compatible_brands", "encoder", "duration")
MS = Fraction(1, 1000)


def carry_file(source: Any, target: Any, start: Fraction) -> None:
    """Copy the metadata and chapters of an open container, which begins `start` seconds after 0, into one at 0."""
    target.metadata.update({key: text for key, text in source.metadata.items() if key.lower() not in TECHNICAL})
    target.set_chapters(
        [
            {
                **chapter,
                "time_base": MS,
                **{side: round((chapter[side] * chapter["time_base"] - start) / MS) for side in ("start", "end")},
            }
            for chapter in source.chapters()
        ]
    )


def carry_track(source: Any, target: Any) -> None:
    """Copy the title, the language and the marks (default, forced, comment and others) of a track."""
    # MP4 and MOV keep a track's title as a name.
    title = source.metadata.get("title") or source.metadata.get("name")
    target.metadata.update({"title": title} if title else {})
    target.metadata.update({key: text for key, text in source.metadata.items() if key == "language"})
    target.disposition = source.disposition
