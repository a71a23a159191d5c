"""What a video's file says beside its pictures and sound: titles, languages, marks of tracks, chapters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

# What a container says of itself, which is untrue of another.
TECHNICAL = ("major_brand", "minor_version", "compatible_brands", "encoder", "software", "duration")
UNKNOWN = "und"  # the language that containers give to tracks without one
MS = Fraction(1, 1000)


def carry_file(source: Any, target: Any, start: Fraction) -> None:
    """Copy the metadata and chapters of an open container, which begins `start` seconds after 0, into one at 0."""
    target.metadata.update({key: text for key, text in source.metadata.items() if key.lower() not in TECHNICAL})
    target.set_chapters([_moved(chapter, start) for chapter in source.chapters()])


def _moved(chapter: Any, start: Fraction) -> dict[str, Any]:
    """A chapter `start` seconds earlier, but not before 0: muxers refuse that."""
    begin, end = (round((chapter[side] * chapter["time_base"] - start) / MS) for side in ("start", "end"))
    return {**chapter, "time_base": MS, "start": max(0, begin), "end": max(0, begin, end)}


def carry_track(source: Any, target: Any) -> None:
    """Copy the title, the language and the marks (default, forced, comment and others) of a track."""
    target.metadata.update(_words(source))
    target.disposition = source.disposition


@dataclass(frozen=True)
class About:
    """What a container says.

    keys: of its metadata, in lower case. chapters: how many. tracks: of each, what it is called here, the keys of its
    words, its marks.
    """

    keys: frozenset[str]
    chapters: int
    tracks: tuple[tuple[str, frozenset[str], Disposition], ...]


def about(container: Any) -> About:
    """What an open container says, or is going to say."""
    keys = frozenset(key.lower() for key in container.metadata)
    tracks = tuple(
        (f"{stream.type} stream {stream.index}", frozenset(_words(stream)), stream.disposition & ~Disposition.default)
        for stream in container.streams
    )
    return About(keys, len(container.chapters()), tracks)


def not_kept(asked: About, file: Path) -> Iterator[str]:
    """Sentences about what a file was asked to say, and does not: containers have no place for some of it."""
    with av.open(str(file.absolute())) as container:
        found = about(container)
    missing = [("the file", sorted(asked.keys - found.keys))]
    missing += [("the file", ["chapters"])] if asked.chapters != found.chapters else []
    for (name, words, marks), (_, found_words, found_marks) in zip(asked.tracks, found.tracks, strict=False):
        lost = [str(mark.name) for mark in Disposition if mark & marks & ~found_marks]
        missing.append((name, [*sorted(words - found_words), *lost]))
    for name, what in missing:
        if what:
            yield f"of {name}, {', '.join(what)} cannot be kept: {file.suffix} has no place for it"


def _words(track: Any) -> dict[str, str]:
    """The title and the language of a track; MP4 and MOV keep the title as a name."""
    title, language = track.metadata.get("title") or track.metadata.get("name"), track.metadata.get("language", UNKNOWN)
    return ({"title": title} if title else {}) | ({"language": language} if language != UNKNOWN else {})
