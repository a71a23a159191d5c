"""What to export, checked before torch is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vsrprune.engines.extras import check_extra
from vsrprune.errors import UserError, one_of
from vsrprune.store.atomic import check_makeable

FORMATS = ("onnx", "safetensors", "torch_export")


@dataclass(frozen=True)
class Request:
    """What the command line says.

    For `source`, `store` and `which` see `load.load_trained`. `size` is the (height, width) of the low-resolution
    frames that are timed and to which the MACs belong. `frames` is the length of a torch_export clip, and of the
    clip that is timed. `repeats` is the number of timings, 0 for none.
    """

    source: Path
    format: str
    out: Path | None = None
    store: str | Path = "store"
    which: str = "pruned"
    size: tuple[int, int] = (180, 320)
    frames: int = 5
    repeats: int = 3
    openvino: bool = False
    overwrite: bool = False

    @property
    def folder(self) -> Path:
        """Where the files go: `out`, or exports/NAME/FORMAT here, NAME that of the job's or network's folder."""
        if self.out is not None:
            return self.out
        source = self.source.resolve()
        return Path("exports", (source.parent if source.is_file() else source).name, self.format)

    def check(self) -> None:
        """Raise UserError for what can be refused without looking at the network."""
        one_of("--format", self.format, FORMATS)
        one_of("--which", self.which, ("pruned", "dense"))
        for name, value, least in (("--frames", self.frames, 2), ("--repeats", self.repeats, 0)):
            if value < least:
                raise UserError(f"{name} must be at least {least}; got {value}")
        if self.openvino and self.format != "onnx":
            raise UserError(f"--openvino times ONNX files; got --format {self.format}")
        if not self.source.exists():
            raise UserError(f"{self.source}: there is no such folder or file")
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"--out {self.folder}: a file is there; name a folder")
        check_makeable("--out", self.folder)
        wanted = {"onnx": ["deploy"], "torch_export": [], "safetensors": []}[self.format]
        for extra in [*wanted, *["openvino"] * self.openvino]:
            check_extra(extra)
