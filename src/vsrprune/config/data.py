"""The group `data`: where clips come from, and how outputs are compared with the truth."""

from __future__ import annotations

from dataclasses import dataclass

from vsrprune.knobs import knob
from vsrprune.results.protocols import BICUBIC, BLUR

DEGRADATIONS = (*BICUBIC, *BLUR)
TRUTHS = ("all", "some", "none")
TRAINING_SETS, TEST_SETS = ("reds", "vimeo90k"), ("reds4", "vid4", "udm10")
PUBLISHED_SETS = (*TRAINING_SETS, *TEST_SETS)
# The knobs of data that only some sets read.
DATA_READERS = {
    **dict.fromkeys(
        ("path", "train", "val", "max_frames", "mirror", "cache", "cache_dir"), ("folder", *PUBLISHED_SETS)
    ),
    **dict.fromkeys(("halve", "scene_cut", "test"), ("folder",)),
    **dict.fromkeys(("train_set", "train_path"), PUBLISHED_SETS),
}


@dataclass
class DataConfig:
    """Where clips come from, which are held out, and how outputs are compared with the truth."""

    name: str = knob("demo", "The clips.", choices=("demo", "folder", *PUBLISHED_SETS))
    path: str = knob("", "The folder of the clips, or of the published set.")
    low: str = knob(
        "bi",
        "The low-resolution frames of a published set: bicubic (bi) or blurred (bd). They are made where they are not"
        " on disk; bd takes data.degradation=bd_basicvsr unless another blur is named.",
        choices=("bi", "bd"),
    )
    train_set: str = knob(
        "", "Another set to train on, for sets that have test clips alone.", choices=("", "folder", *TRAINING_SETS)
    )
    train_path: str = knob("", "The folder of data.train_set.")
    train: list[str] = knob([], "The names of the clips to train on; none: all that are not held out.")
    val: list[str] = knob([], "The names of the held-out clips; none: the set's own, or a share of a folder's.")
    test: list[str] = knob(
        [],
        "The names of a folder's test clips, which no stage trains on and no choice is made by: their quality stands"
        " beside that of the held-out clips. Published sets keep their protocol.",
    )
    val_share: float = knob(0.2, "The share of a folder's clips that is held out.", above=0, below=1)
    split_seed: int = knob(0, "The seed that draws the held-out clips of a folder.", at_least=0, at_most=2**63 - 1)
    max_frames: int = knob(0, "Only the first so many frames of every clip are read; 0: all.", at_least=0)
    halve: bool = knob(
        False,
        "Average 2x2 pixels first: for compressed video, whose artefacts are not detail. With data.truth=none that"
        " halves the input itself; the clips of data.unlabelled are never halved.",
    )
    mirror: bool = knob(False, "Every training sequence is followed by itself backwards.")
    cache: bool = knob(False, "Decode once, into memory maps in data.cache_dir: for what memory cannot hold.")
    cache_dir: str = knob("", "The folder of the memory maps; empty: store_dir/cache.")
    on_error: str = knob(
        "fail", "What to do with clips that cannot be read: `skip` lists them in the result.", choices=("fail", "skip")
    )
    scene_cut: float = knob(
        0.0,
        "Cut videos where the luma histogram changes by more than this share, such as 0.2; 0: never.",
        at_least=0,
        below=1,
        words="0 for no cuts",
    )
    demo_seed: int = knob(0, "The seed of the demo's camera paths.", at_least=0, at_most=2**63 - 1)
    demo_frames: int = knob(10, "Frames of a demo clip.", at_least=1, at_most=1000)
    demo_train_per_photo: int = knob(4, "Training clips from every photograph of the demo.", at_least=1, at_most=1000)
    demo_val_per_photo: int = knob(2, "Held-out clips from every photograph of the demo.", at_least=1, at_most=1000)
    truth: str = knob(
        "all",
        "Which clips have a high-resolution truth. `none`: the clips of a folder are the input as they are, and scores,"
        " sparsify, fine-tuning and results go by what the dense network makes of them (pretrained=FILE); `some`:"
        " sparsify and fine-tuning learn from the clips of data.unlabelled besides.",
        choices=TRUTHS,
    )
    unlabelled: str = knob(
        "",
        "With data.truth=some: a folder of clips without truth, the input as they are. Every step draws as many of them"
        " as of the others.",
    )
    unlabelled_weight: float = knob(
        1.0,
        "With data.truth=some: the weight of the loss that holds the outputs on data.unlabelled to the dense"
        " network's.",
        above=0,
    )
    degradation: str = knob(
        "bicubic",
        "How low-resolution frames are made. `bicubic`: MATLAB's imresize, rounded once; `bicubic_uint8_passes`: as"
        " MATLAB rounds uint8 images, after each dimension; `bd_basicvsr`, `bd_duf`: a Gaussian blur of 1.6 pixels,"
        " then every 4th pixel, by BasicVSR's or DUF's script; `bd_duf_frames`: as DUF's authors made the frames that"
        " they gave out, of 9 taps and rounded down.",
        choices=DEGRADATIONS,
    )
    channel: str | None = knob(
        None, "What is compared, `rgb` or the luma `y`; null: by evaluate.protocol, else y.", choices=("rgb", "y")
    )
    crop: int | None = knob(
        None, "Border pixels that the comparison leaves out; null: by evaluate.protocol, else 0.", at_least=0
    )

    def shrunk_by(self, scale: int) -> int:
        """How many times as large as the input the frames on disk are, at a network's scale."""
        return 1 if self.truth == "none" else scale

    @property
    def weight_without_truth(self) -> float:
        """The weight of the loss that holds outputs to the dense network's, on clips that have no truth; 0: none."""
        return {"all": 0.0, "some": self.unlabelled_weight, "none": 1.0}[self.truth]

    @property
    def shrinking(self) -> str:
        """How low-resolution frames are made where there are none: low=bd asks for a blur, whatever else is said."""
        return BLUR[0] if self.low == "bd" and self.degradation not in BLUR else self.degradation
