"""Export a trained network: weights, ONNX or torch.export; what is written is verified against PyTorch.

python src/export.py runs/SWEEP/JOB --format onnx              clip.onnx, and one recurrent step where there is one
python src/export.py NETWORK_FOLDER --format torch_export     .pt2 files for C++
python src/export.py runs/SWEEP/JOB --format safetensors       weights and their description
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vsrprune.cli import explained
from vsrprune.commands import CommandParser
from vsrprune.use.export.request import FORMATS, Request


def parse(arguments: Sequence[str] | None) -> Request:
    """The command line."""
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("source", metavar="RUN", type=Path, help="a job's folder, a folder with network.safetensors, or that file")
    add("--format", required=True, help=f"{', '.join(FORMATS)}")
    add("--out", type=Path, help="folder to write into (default: exports/NAME/FORMAT, NAME that of RUN)")
    add("--store", default=Request.store, help="the store that holds the job's networks (store)")
    add("--which", default=Request.which, help="of a job: pruned (default) or dense")
    add("--size", type=int, nargs=2, metavar=("H", "W"), default=Request.size, help="of the timed frames (180 320)")
    frames_help = (
        "length of the timed clip, of clip.pt2, and of clip.onnx of edvr and basicvsr_pp, which are unrolled (5)"
    )
    add("--frames", type=int, default=Request.frames, help=frames_help)
    add("--repeats", type=int, default=Request.repeats, help="of the timing; 0 for none (3)")
    add("--openvino", action="store_true", help="verify and time clip.onnx in OpenVINO too")
    add("--overwrite", action="store_true", help="replace files that are there")
    given = vars(parser.parse_args(arguments))
    return Request(size=tuple(given.pop("size")), **given)


def main(arguments: Sequence[str] | None = None) -> None:
    """Export as the command line asks; exits with 2 after one line about what was wrong."""
    request = parse(arguments)
    with explained():
        request.check()
        from vsrprune.use.export.export import export  # after the check: importing torch takes seconds

        export(request, lambda text: print(text, flush=True))


if __name__ == "__main__":
    main()
