"""Super-resolve a video with a trained network, or with several to compare them in one video.

python src/upscale.py in.mp4 out.mp4 --model runs/SWEEP/JOB          the pruned network of a job
python src/upscale.py in.mkv frames --model NETWORK_FOLDER          a folder of PNG frames out, or in
python src/upscale.py in.mp4 out.mp4 --compare bicubic JOB JOB      side by side; --layout divider for two
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import FrameType

from PIL import ImageColor

from vsrprune.commands import CommandParser
from vsrprune.errors import UserError
from vsrprune.host.causes import first_line, known_cause

VIDEOS = (".mp4", ".mkv", ".mov", ".webm")
SMALLEST_TILE = 32  # below it a tile is mostly overlap


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = CommandParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="The output has 8 bits per channel and 4:2:0 chroma, whatever the input has.",
    )
    add = parser.add_argument
    add("source", type=Path, help="a video, or a folder of PNG frames")
    add(
        "target",
        type=Path,
        nargs="?",
        help="a video (.mp4, .mkv, .mov, .webm), or a name without suffix: a folder of PNG frames",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", type=Path, help="a job's folder, a folder with network.safetensors, or that file")
    what.add_argument(
        "--compare",
        nargs="+",
        metavar="MODEL",
        help="up to four such models, or the words bicubic and dense (the first job's dense network); one alone stands"
        " beside bicubic",
    )
    add("--layout", help="of --compare: side by side (side, default), or two with a moving line between (divider)")
    add(
        "--truth",
        action="store_true",
        help="of --compare: shrink the source, enlarge that, and tell PSNR against the source",
    )
    add("--store", default="store", help="the store that holds the job's networks (default: store)")
    add("--which", default="pruned", help="of a job: pruned (default) or dense")
    add("--window", type=int, default=30, help="frames super-resolved at a time, if the network is bidirectional (30)")
    add("--overlap", type=int, default=5, help="frames after a window that its backward branch also reads (5)")
    add("--tile", type=int, default=0, help="longest side of a tile in input pixels; 0 (default) for whole frames")
    add("--tile-overlap", type=int, default=16, help="input pixels around a tile that it also reads (16)")
    add("--codec", help="libx264 (default; .webm: libvpx-vp9), libx265, libvpx-vp9, libsvtav1 or ffv1 (lossless)")
    add("--crf", type=int, help="constant quality, lower is better (17 for libx264)")
    add("--fps", type=_rate, help="frames per second of a folder of PNGs, like 25 (usual) or 30000/1001")
    add("--background", type=_colour, help="what is seen through transparent frames: a name like white, or #rrggbb")
    add("--device", default="auto", help="auto (default: a GPU where there is one), cpu or cuda")
    add(
        "--precision",
        help="32 (usual on the CPU), tf32, bf16, 16 (usual on a GPU), or int8 (see --engine)",
    )
    add(
        "--engine",
        default="torch",
        help="torch (default), onnxruntime, openvino (both on the CPU, in 32 bits, or in int8 if the job made that), or"
        " auto: the fastest that is installed",
    )
    add("--threads", type=int, default=0, help="of the network; 0 (default) leaves it to PyTorch")
    add("--overwrite", action="store_true", help="replace the target if it exists")
    given = parser.parse_args(arguments)
    # IN --compare MODEL MODEL OUT reads well too, and argparse takes OUT for another model.
    if given.target is None and given.compare and Path(given.compare[-1]).suffix.lower() in VIDEOS:
        given.target = Path(given.compare.pop())
    if given.target is None or given.compare == []:
        parser.error(f"the following arguments are required: {'target' if given.target is None else 'MODEL'}")
    return given


def _rate(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"must be a number like 25 or 30000/1001; got {text!r}") from error


def _colour(text: str) -> tuple[int, int, int]:
    try:
        red, green, blue, *alpha = ImageColor.getrgb(text)
    except ValueError:
        alpha = [0]
    if alpha:
        raise argparse.ArgumentTypeError(f"must be an opaque colour like white or #ffffff; got {text!r}")
    return red, green, blue


def main(arguments: Sequence[str] | None = None) -> int:
    """Upscale as the command line asks; 0, or after one line 2 for what was given, 1 for what the device cannot do."""
    given = parse(arguments)
    from vsrprune.cli import complain

    if given.compare is None and (given.layout or given.truth):
        flag = "--truth" if given.truth else f"--layout {given.layout}"
        return complain(f"{flag} is for --compare; leave it out, or give --compare MODEL MODEL", 2)
    if given.compare is not None and given.engine != "torch":
        return complain(f"--engine {given.engine} is for --model; --compare runs in PyTorch: leave it out", 2)
    from vsrprune.use.compare_video import (  # after parsing: importing torch takes seconds
        CompareRequest,
        write_comparison,
    )
    from vsrprune.use.streaming import Pieces
    from vsrprune.use.upscaling import UpscalingRequest, upscale

    values = vars(given)
    names = ("window", "overlap", "tile", "tile_overlap")
    pieces = Pieces(**{name: values.pop(name) for name in names})
    compared, layout, truth = values.pop("compare"), values.pop("layout"), values.pop("truth")
    for number in (signal.SIGTERM, signal.SIGHUP):  # a terminal that is closed sends the second
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _terminate)
    try:
        request = UpscalingRequest(pieces=pieces, rate=values.pop("fps"), **values)
        if compared is None:
            upscale(request, _say)
        else:
            write_comparison(CompareRequest(request, tuple(compared), layout or "side", truth), _say)
    except UserError as error:
        return complain(str(error), 2)
    except OSError as error:
        if error.errno is None:
            raise
        return complain(f"{error.filename or given.target}: {error.strerror}", 2)
    except (RuntimeError, MemoryError) as error:
        cause = known_cause(error)
        if cause is None:
            raise
        advice = less_to_hold(pieces.tile) if cause.is_memory else cause.advice("")
        return complain(f"{cause.cause}: {first_line(error)}; {advice}", 1)
    except KeyboardInterrupt:
        return complain("interrupted; nothing was written", 130)
    return 0


def less_to_hold(tile: int) -> str:
    """What to change where the device has no memory for a frame, or for a tile of so many pixels a side."""
    smaller = tile // 2 if tile else 256
    return f"give --tile {smaller}, or a smaller --window" if smaller >= SMALLEST_TILE else "give a smaller --window"


def _say(text: str) -> None:
    # A name may hold bytes that are no UTF-8.
    print(text.encode(errors="backslashreplace").decode(), flush=True)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
