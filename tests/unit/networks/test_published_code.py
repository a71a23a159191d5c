"""EDSR, RCAN and RRN once more, as the projects that publish their weights nest and run them: equal outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrprune.networks.checkpoints import load_dense
from vsrprune.networks.edsr_rcan.spec import EDSRArguments, RCANArguments
from vsrprune.networks.rrn.spec import RRNArguments
from vsrprune.networks.table import FAMILIES

C = 6


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


class TwoConvs(nn.Module):
    """BasicSR's and RRN's residual blocks without batch norm."""

    def __init__(self, res_scale: float = 1.0) -> None:
        super().__init__()
        self.conv1, self.conv2, self.res_scale = conv(C, C), conv(C, C), res_scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x))) * self.res_scale


class Attention(nn.Module):
    def __init__(self, squeezed: int) -> None:
        super().__init__()
        down, up = conv(C, squeezed, 1), conv(squeezed, C, 1)
        self.attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), down, nn.ReLU(), up, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.attention(x)
        return x * weights


class AttentiveBlock(nn.Module):
    def __init__(self, squeezed: int) -> None:
        super().__init__()
        self.rcab = nn.Sequential(conv(C, C), nn.ReLU(), conv(C, C), Attention(squeezed))

    def forward(self, x: Tensor) -> Tensor:
        update: Tensor = self.rcab(x)
        return x + update


class Group(nn.Module):
    def __init__(self, blocks: int, squeezed: int) -> None:
        super().__init__()
        self.residual_group = nn.Sequential(*(AttentiveBlock(squeezed) for _ in range(blocks)))
        self.conv = conv(C, C)

    def forward(self, x: Tensor) -> Tensor:
        update: Tensor = self.conv(self.residual_group(x))
        return x + update


class ImageNet(nn.Module):
    """BasicSR's EDSR and RCAN differ in their bodies alone."""

    def __init__(self, body: nn.Sequential, factors: tuple[int, ...]) -> None:
        super().__init__()
        self.conv_first, self.body, self.conv_after_body = conv(3, C), body, conv(C, C)
        enlarging = [layer for factor in factors for layer in (conv(C, factor**2 * C), nn.PixelShuffle(factor))]
        self.upsample, self.conv_last = nn.Sequential(*enlarging), conv(C, 3)

    def forward(self, image: Tensor) -> Tensor:
        mean = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)
        x = self.conv_first((image - mean) * 255.0)
        x = self.conv_last(self.upsample(x + self.conv_after_body(self.body(x))))
        restored: Tensor = x / 255.0 + mean
        return restored

    def clip(self, frames: Tensor) -> Tensor:
        return torch.stack([self(frame) for frame in frames.unbind(1)], dim=1)


class Pack(nn.Module):
    """mmagic's pixel shuffle with its convolution."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.upsample_conv, self.factor = conv(C, factor**2 * C), factor

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.upsample_conv(x), self.factor)


class MmagicNet(nn.Module):
    """mmagic's EDSR: pictures in [0, 1] less their mean, where the others have [0, 255]."""

    def __init__(self, blocks: int, res_scale: float, factors: tuple[int, ...]) -> None:
        super().__init__()
        self.conv_first, self.conv_after_body, self.conv_last = conv(3, C), conv(C, C), conv(C, 3)
        self.body = nn.Sequential(*(TwoConvs(res_scale) for _ in range(blocks)))
        self.upsample = nn.Sequential(*(Pack(factor) for factor in factors))

    def clip(self, frames: Tensor) -> Tensor:
        mean = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)
        restored = []
        for frame in frames.unbind(1):
            x = self.conv_first(frame - mean)
            restored.append(self.conv_last(self.upsample(x + self.conv_after_body(self.body(x)))) + mean)
        return torch.stack(restored, dim=1)


class Body(nn.Module):
    """x + scale * body(x): every block and group of the authors' code."""

    def __init__(self, layers: list[nn.Module], res_scale: float = 1.0) -> None:
        super().__init__()
        self.body, self.res_scale = nn.Sequential(*layers), res_scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.res_scale * self.body(x)


class AuthorsAttention(nn.Module):
    def __init__(self, squeezed: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(conv(C, squeezed, 1), nn.ReLU(), conv(squeezed, C, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv_du(x.mean(dim=(-2, -1), keepdim=True))


def mean_shift(sign: int) -> nn.Conv2d:
    shift = conv(3, 3, 1)
    shift.weight.data = torch.eye(3).view(3, 3, 1, 1)
    shift.bias.data = sign * 255 * torch.tensor([0.4488, 0.4371, 0.4040])
    return shift


class AuthorsNet(nn.Module):
    """EDSR-PyTorch's EDSR and the RCAN that is built on it: head, body, tail, on pictures in [0, 255]."""

    def __init__(self, body: list[nn.Module], factors: tuple[int, ...]) -> None:
        super().__init__()
        self.sub_mean, self.add_mean = mean_shift(-1), mean_shift(1)
        self.head, self.body = nn.Sequential(conv(3, C)), nn.Sequential(*body, conv(C, C))
        enlarging = [layer for factor in factors for layer in (conv(C, factor**2 * C), nn.PixelShuffle(factor))]
        self.tail = nn.Sequential(nn.Sequential(*enlarging), conv(C, 3))

    def clip(self, frames: Tensor) -> Tensor:
        restored = []
        for frame in frames.unbind(1):
            x = self.head(self.sub_mean(255 * frame))
            restored.append(self.add_mean(self.tail(x + self.body(x))) / 255)
        return torch.stack(restored, dim=1)


def authors_edsr(blocks: int, res_scale: float, factors: tuple[int, ...]) -> AuthorsNet:
    return AuthorsNet([Body([conv(C, C), nn.ReLU(), conv(C, C)], res_scale) for _ in range(blocks)], factors)


def authors_rcan() -> AuthorsNet:
    def block() -> Body:
        return Body([conv(C, C), nn.ReLU(), conv(C, C), AuthorsAttention(3)])

    return AuthorsNet([Body([block(), block(), conv(C, C)]) for _ in range(2)], (2, 2))


class Neuro(nn.Module):
    def __init__(self, blocks: int, detail: int) -> None:
        super().__init__()
        self.conv_1 = conv(2 * 3 + C + detail, C)
        self.recon_trunk = nn.Sequential(*(TwoConvs() for _ in range(blocks)))
        self.conv_h, self.conv_o = conv(C, C), conv(C, detail)

    def forward(self, frames: Tensor, hidden: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        x = self.recon_trunk(F.relu(self.conv_1(torch.cat((frames, hidden, output), dim=1))))
        return F.relu(self.conv_h(x)), self.conv_o(x)


class Recurrent(nn.Module):
    """RRN; the first frame is its own predecessor here, where their data set puts the second one before it."""

    def __init__(self, blocks: int, scale: int) -> None:
        super().__init__()
        self.neuro, self.scale = Neuro(blocks, 3 * scale**2), scale

    def clip(self, frames: Tensor) -> Tensor:
        batch, length, _, height, width = frames.shape
        hidden = torch.zeros(batch, C, height, width)
        output = torch.zeros(batch, 3 * self.scale**2, height, width)
        restored = []
        for t in range(length):
            both = torch.cat((frames[:, max(t - 1, 0)], frames[:, t]), dim=1)
            hidden, detail = self.neuro(both, hidden, output)
            large = F.interpolate(frames[:, t], scale_factor=self.scale, mode="bilinear", align_corners=False)
            restored.append(F.pixel_shuffle(detail, self.scale) + large)
            # Their own unshuffling: rows and columns of a pixel's square go behind the colours.
            squares = restored[-1].view(batch, 3, height, self.scale, width, self.scale)
            output = squares.permute(0, 1, 3, 5, 2, 4).reshape(batch, -1, height, width)
        return torch.stack(restored, dim=1)


EDSR, X3, RCAN = EDSRArguments(C, 3, 0.5), EDSRArguments(C, 1, 1.0, (3,)), RCANArguments(C, 2, 2, 2)
THEIRS = {
    ("edsr", "BasicSR", EDSR): lambda: ImageNet(nn.Sequential(*(TwoConvs(0.5) for _ in range(3))), (2, 2)),
    ("edsr", "BasicSR", X3): lambda: ImageNet(nn.Sequential(TwoConvs()), (3,)),
    ("edsr", "mmagic", EDSR): lambda: MmagicNet(3, 0.5, (2, 2)),
    ("edsr", "mmagic", X3): lambda: MmagicNet(1, 1.0, (3,)),
    ("edsr", "EDSR-PyTorch", EDSR): lambda: authors_edsr(3, 0.5, (2, 2)),
    ("edsr", "EDSR-PyTorch", X3): lambda: authors_edsr(1, 1.0, (3,)),
    ("rcan", "BasicSR", RCAN): lambda: ImageNet(nn.Sequential(*(Group(2, 3) for _ in range(2))), (2, 2)),
    ("rcan", "RCAN's authors", RCAN): authors_rcan,
    ("rrn", "RRN", RRNArguments(C, 2)): lambda: Recurrent(2, 4),
    ("rrn", "RRN", RRNArguments(C, 1, (2,))): lambda: Recurrent(1, 2),
}


def test_every_project_of_these_families_is_tried() -> None:
    tried = {(family, project) for family, project, _ in THEIRS}
    cases = {family: arguments for family, _, arguments in THEIRS}
    assert tried == {(name, project) for name, case in cases.items() for project in FAMILIES[name].published(case)}


@pytest.mark.parametrize("case", THEIRS, ids=lambda case: f"{case[1]} {case[0]} {case[2].scale}")
def test_their_network_and_ours_are_one(case: tuple[str, str, Any], tmp_path: Path) -> None:
    family, project, arguments = case
    torch.manual_seed(0)
    theirs = THEIRS[case]()
    names = FAMILIES[family].published(arguments)[project]
    assert sorted(names.names) == sorted(name for name in theirs.state_dict() if "_mean." not in name)
    torch.save({"params": theirs.state_dict()}, tmp_path / "published.pth")
    frames_NTCHW, said = torch.rand(2, 4, 3, 7, 9), []
    with torch.no_grad():
        expected = theirs.clip(frames_NTCHW)
        got = load_dense(tmp_path / "published.pth", arguments, said.append)(frames_NTCHW).frames_NTCHW
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert float(expected.std(dim=(-2, -1)).min()) > 0.01
    assert said == [f"{tmp_path / 'published.pth'}: weights in {project}'s layout, under params"]
