"""Names of EDSR's and RCAN's weights: BasicSR's, mmagic's (of EDSR; it has no RCAN), and those of the authors' code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vsrprune.networks.edsr_rcan.spec import EDSRArguments, RCANArguments
from vsrprune.networks.parts.published import SPYNET_CONSTANTS, PublishedNames, tensors

# mmagic's network takes pictures in [0, 1], all others [0, 255], as ours does inside.
MMAGIC_RANGE = {"conv_first.weight": 1 / 255, "conv_last.weight": 255.0, "conv_last.bias": 255.0}
# The mean of DIV2K's pictures, as convolutions that subtract and add it.
MEAN_CONVS = tuple(f"{name}.{kind}" for name in ("sub_mean", "add_mean") for kind in ("weight", "bias"))


@dataclass(frozen=True)
class Ends:
    """Names of what lies around the blocks. {index} counts the pixel shuffles, {place} the shuffles' layers too."""

    first: str
    after: str
    upsample: str
    last: str

    def around(self, inside: Sequence[tuple[str, str]], factors: Sequence[int]) -> Iterator[tuple[str, str]]:
        """Their and our names of all modules, of those between the first and `after` too."""
        yield self.first, "conv_first"
        yield from inside
        yield self.after, "conv_after_body"
        for index in range(len(factors)):
            yield self.upsample.format(index=index, place=2 * index), f"upconv{index + 1}"
        yield self.last, "conv_last"


BASICSR = Ends("conv_first", "conv_after_body", "upsample.{place}", "conv_last")
MMAGIC = Ends("conv_first", "conv_after_body", "upsample.{index}.upsample_conv", "conv_last")


def authors_ends(blocks: int) -> Ends:
    """In EDSR-PyTorch, which RCAN's authors built on; the convolution after so many blocks is one more of them."""
    return Ends("head.0", f"body.{blocks}", "tail.0.{place}", "tail.1")


def published_edsr(arguments: EDSRArguments) -> dict[str, PublishedNames]:
    """Who has published weights of EDSR, and by which names."""
    blocks, factors = range(arguments.blocks), arguments.upscale_factors
    plain = [(f"body.{block}.{conv}",) * 2 for block in blocks for conv in ("conv1", "conv2")]
    authors = [
        (f"body.{block}.body.{place}", f"body.{block}.{conv}")
        for block in blocks
        for place, conv in ((0, "conv1"), (2, "conv2"))
    ]
    return {
        "BasicSR": PublishedNames(tensors(BASICSR.around(plain, factors)), SPYNET_CONSTANTS),
        "mmagic": PublishedNames(tensors(MMAGIC.around(plain, factors)), factors=MMAGIC_RANGE),
        "EDSR-PyTorch": PublishedNames(tensors(authors_ends(len(blocks)).around(authors, factors)), MEAN_CONVS),
    }


def published_rcan(arguments: RCANArguments) -> dict[str, PublishedNames]:
    """Who has published weights of RCAN, and by which names."""
    groups, blocks, factors = arguments.groups, arguments.blocks, arguments.upscale_factors
    basicsr = _groups(arguments, "residual_group.{block}.rcab", "attention.1", "attention.3", "conv")
    authors = _groups(arguments, "body.{block}.body", "conv_du.0", "conv_du.2", f"body.{blocks}")
    return {
        "BasicSR": PublishedNames(tensors(BASICSR.around(basicsr, factors)), SPYNET_CONSTANTS),
        "RCAN's authors": PublishedNames(tensors(authors_ends(groups).around(authors, factors)), MEAN_CONVS),
    }


def _groups(arguments: RCANArguments, block: str, squeeze: str, excite: str, conv: str) -> list[tuple[str, str]]:
    """Their and our names of what the groups hold, from the names within a group and within a block's attention."""
    inside = {"0": "conv1", "2": "conv2", f"3.{squeeze}": "squeeze", f"3.{excite}": "excite"}
    modules = []
    for group in range(arguments.groups):
        for index in range(arguments.blocks):
            theirs, ours = f"body.{group}.{block.format(block=index)}", f"body.{group}.blocks.{index}"
            modules += [(f"{theirs}.{place}", f"{ours}.{name}") for place, name in inside.items()]
        modules.append((f"body.{group}.{conv}", f"body.{group}.conv"))
    return modules
