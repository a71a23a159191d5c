"""Training steps that are replayed end where steps end that are computed anew, and only what may be replayed is.

There is no CUDA here: operations are recorded on the CPU and run again, with the rules of CUDA graphs (`recorded`).
"""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import signal
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from clips_made import DEMO
from recorded import recorded
from torch import Tensor, nn

from vsrprune.channels.layout import RULES
from vsrprune.channels.plan import PrunePlan
from vsrprune.cli import preset
from vsrprune.commands import CONF
from vsrprune.data.sampling import Batch
from vsrprune.errors import PreemptedError, UserError
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.table import build
from vsrprune.pruning.penalty import TARGETS, Growth
from vsrprune.pruning.reparametrisation import hold_zeros, normalise_filters
from vsrprune.pruning.surgery import compact
from vsrprune.stages.align.module import Align
from vsrprune.stages.finetune.module import Finetune
from vsrprune.stages.finetune.scratch import Scratch
from vsrprune.stages.flow.module import FlowTraining
from vsrprune.stages.graph import RECIPES
from vsrprune.stages.pretrain.module import Pretrain, TrainedFlow
from vsrprune.stages.sparsify.module import Sparsify
from vsrprune.stages.training import fit as fitting
from vsrprune.stages.training import graphs
from vsrprune.stages.training.fit import Sampling, Session, fit
from vsrprune.stages.training.graphs import BatchTerms, captured, uses_graphs
from vsrprune.stages.training.hardware import Arithmetic, Hardware, check_graphs
from vsrprune.stages.training.module import Rates, TrainingStage
from vsrprune.stages.training.teacher import Teacher

TINY = sorted(path.stem for path in (CONF / "model").glob("*_tiny.yaml"))
STEPS = 5
ARGUMENTS = BasicVSRArguments(
    channels=4, blocks=1, upsampler_channels=4, bidirectional=True, upscale_factors=(2, 2), slope=0.1, flow_levels=2,
    flow_kernel=3, flow_widths=(4,),
)  # fmt: skip
CLIPS = DEMO.train
RATES, GROWTH = Rates(1e-3, 1e-2), Growth(1e-2, 1, 1.0)
ON_A_CARD = Hardware(device="cuda")


def dense() -> BasicVSR:
    torch.manual_seed(0)
    return BasicVSR(ARGUMENTS)


def plan(rule: str = "rsc") -> PrunePlan:
    layout = dense().channel_layout(rule)
    return PrunePlan.cutting(rule, layout, {group.name: [1] for group in layout.groups})


def teacher() -> Teacher:
    return Teacher(dense(), 1.0, 0.5)


def sparsify(target: str = "gates", kind: type[Sparsify] = Sparsify, taught_by: Teacher | None = None) -> Sparsify:
    cut = TARGETS[target](dense(), plan())
    return kind(dense(), cut, steps=STEPS, rates=RATES, growth=GROWTH, teacher=taught_by)


def normalised() -> TrainingStage:
    network = dense()
    normalise_filters(network, network.channel_layout("aligned"))
    return Sparsify(network, TARGETS["gates"](network, plan("aligned")), steps=STEPS, rates=RATES, growth=GROWTH)


def align() -> TrainingStage:
    network, layout = dense(), dense().channel_layout("aligned")
    normalise_filters(network, layout)
    kept = {group.name: group.size - 1 for group in layout.groups}
    return Align(network, layout, kept, steps=STEPS, rates=RATES, weight=0.1)


def finetune(taught_by: Teacher | None = None, train_flow: bool = False, rule: str = "rsc") -> TrainingStage:
    student = compact(dense(), plan(rule))
    return Finetune(student, taught_by, train_flow=train_flow, steps=STEPS, lr=1e-3, shape="cosine")


def truncated() -> TrainingStage:
    module = finetune(teacher())
    module.network.gradient_frames = 2
    return module


def masked() -> TrainingStage:
    module = finetune()
    with torch.no_grad():
        module.network.get_parameter("fusion.weight")[0].zero_()
    hold_zeros(module.network, module.network.channel_layout("rsc"))
    return module


def scratch(taught_by: Teacher | None = None) -> TrainingStage:
    narrow = dense().with_plan(plan("aligned"))
    return Scratch(narrow, taught_by, steps=STEPS, lr=1e-3, shape="cosine", trained_flow=None)


MODULES: dict[str, Callable[[], TrainingStage]] = {
    "flow": lambda: FlowTraining(dense(), STEPS, 1e-3, "cosine"),
    "pretrain": lambda: Pretrain(dense(), STEPS, 1e-3, "onecycle"),
    "pretrain, its flow net frozen for two steps": lambda: Pretrain(
        dense(), STEPS, 1e-3, "onecycle", TrainedFlow(2, 0.5)
    ),
    "align": align,
    "sparsify": sparsify,
    "sparsify, filters": lambda: sparsify("filters"),
    "sparsify, normalised": normalised,
    "sparsify, taught": lambda: sparsify(taught_by=teacher()),
    "finetune": finetune,
    "finetune, masked": masked,
    "finetune, taught": lambda: finetune(teacher()),
    "finetune, taught, gradients of states truncated": truncated,
    "finetune, taught, with its flow net": lambda: finetune(teacher(), train_flow=True),
    "finetune, from scratch": scratch,
    "finetune, from scratch, taught through adaptors": lambda: scratch(teacher()),
}


def train(module: TrainingStage, workdir: Path, precision: str = "32-true", **session: Any) -> Any:
    """Rows and weights at the end."""
    hardware = Hardware(arithmetic=Arithmetic(precision))
    told = Session(workdir, log_every=1, checkpoint_every=2, hardware=hardware, **session)
    rows = fit(module, CLIPS, Sampling(batch=2, patch=8, frames=3, seed=0), told)
    return rows, copy.deepcopy(module.state_dict())


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """From now on steps are recorded and replayed; what was recorded, without an error."""
    seen: list[nn.Module] = []

    def record(module: nn.Module, example: Batch) -> Any:
        replay = recorded(module, example)
        seen.append(module)
        return replay

    monkeypatch.setattr(graphs, "graphed", record)
    monkeypatch.setattr(fitting, "uses_graphs", lambda hardware, network: True)
    return seen


def same(one: Any, other: Any) -> bool:
    """Whether rows and weights are the same to the bit."""
    return one[0] == other[0] and all(torch.equal(value, other[1][name]) for name, value in one[1].items())


def check(make: Callable[[], TrainingStage], folder: Path, precision: str = "32-true") -> bool:
    """Whether replayed steps end where computed ones do, both of which train."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "uses_graphs", lambda hardware, network: False)
        computed = train(make(), folder / "computed", precision)
    trained = {name: value for name, value in make().named_parameters() if value.requires_grad}
    assert sum(not torch.equal(value, computed[1][name]) for name, value in trained.items()) > len(trained) / 3
    return same(computed, train(make(), folder / "replayed", precision))


@pytest.mark.parametrize("name", MODULES)
def test_replayed_steps_end_where_computed_ones_do(name: str, tmp_path: Path, replays: list[nn.Module]) -> None:
    assert check(MODULES[name], tmp_path)
    assert len(replays) == 1


def test_every_stage_that_trains_is_among_these() -> None:
    assert {name.split(",")[0] for name in MODULES} == {name for name, recipe in RECIPES.items() if recipe.steps}


# fp16 has a scaler on top, which multiplies what the backward graph is given, and divides the gradients in place.
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("name", ["sparsify", "finetune, taught"])
def test_replayed_steps_in_sixteen_bits_end_there_too(
    name: str, precision: str, tmp_path: Path, replays: list[nn.Module]
) -> None:
    assert check(MODULES[name], tmp_path, precision)
    assert len(replays) == 1


def test_a_resumed_training_captures_anew(tmp_path: Path, replays: list[nn.Module]) -> None:
    def ask(row: dict[str, Any]) -> None:
        if row["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    whole = train(sparsify(), tmp_path / "whole")
    with pytest.raises(PreemptedError, match="at step 3"):
        train(sparsify(), tmp_path / "broken", on_row=ask)
    assert same(whole, train(sparsify(), tmp_path / "broken"))
    assert len(replays) == 3


class Frozen(Sparsify):
    """Counts its penalty among what is captured."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return super().losses(batch) | super().penalties()

    def penalties(self) -> dict[str, Tensor]:
        return {}


def test_a_penalty_that_is_captured_is_found(tmp_path: Path, replays: list[nn.Module]) -> None:
    """Its lambda would stay what it was when the step was captured."""
    assert not check(lambda: sparsify(kind=Frozen), tmp_path)
    assert len(replays) == 1


class ReadsLate(Pretrain):
    """Logs the loss of a step in the step after it."""

    late: Tensor | None = None
    copies = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        assert self._captured is not None
        loss = super().training_step(batch, batch_idx)
        late, self.late = self.late, self._captured.losses(batch)["reconstruction"]
        self.late = self.late.clone() if self.copies else self.late
        if late is not None:
            self.read.append(late.item())
        return loss


def test_a_loss_that_is_read_after_the_next_replay_is_found(tmp_path: Path, replays: list[nn.Module]) -> None:
    seen = {}
    for copies in (False, True):
        module = ReadsLate(dense(), STEPS, 1e-3, "constant")
        module.copies, module.read = copies, []
        rows, _ = train(module, tmp_path / str(copies))
        seen[copies] = [round(value, 8) for value in module.read]
    right = [row["loss_reconstruction"] for row in rows]
    assert seen[True] == right[:-1]
    assert seen[False] == right[1:]


def test_at_the_end_what_was_captured_is_dropped(tmp_path: Path, replays: list[nn.Module]) -> None:
    module = MODULES["pretrain"]()
    train(module, tmp_path)
    held = weakref.ref(replays.pop())
    gc.collect()
    assert held() is None


def test_a_batch_of_another_shape_is_computed(tmp_path: Path, replays: list[nn.Module]) -> None:
    computed: list[tuple[int, ...]] = []

    class Counts(Pretrain):
        def losses(self, batch: Batch) -> dict[str, Tensor]:
            computed.append(tuple(batch.low_NTCHW.shape))
            return super().losses(batch)

        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            return super().training_step(Batch(*(part[:1] for part in batch)) if batch_idx == 3 else batch, batch_idx)

    train(Counts(dense(), STEPS, 1e-3, "constant"), tmp_path)
    assert len(replays) == 1
    assert computed.count((1, 3, 3, 8, 8)) == 1
    assert computed[-1] == (1, 3, 3, 8, 8)


class Counter(nn.Module):
    """A buffer that every forward pass changes, as a running mean's."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.weight = nn.Parameter(torch.ones(()))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        self.calls.add_(1)
        return {"a": self.weight * batch.low_NTCHW.mean(), "b": self.weight + batch.high_NTCHW.mean()}


def batch_of(value: float) -> Batch:
    return Batch(torch.full((2,), value), torch.full((3,), 10 * value))


def terms_of(module: Counter) -> BatchTerms:
    return BatchTerms(module, module.losses, contextlib.nullcontext)


def test_terms_keep_their_names_and_a_capture_leaves_buffers_as_they_were(replays: list[nn.Module]) -> None:
    module = Counter()
    found = captured(terms_of(module), batch_of(0.0))
    assert found is not None
    assert module.calls == 0
    for value in (1.0, 2.0):
        assert {name: term.item() for name, term in found.losses(batch_of(value)).items()} == {
            "a": value,
            "b": 1 + 10 * value,
        }
    assert module.calls == 2
    assert found.fits(batch_of(5.0))
    assert not found.fits(Batch(torch.zeros(3), torch.zeros(3)))


def test_a_step_that_cannot_be_captured_is_computed_and_one_line_says_so(replays: list[nn.Module]) -> None:
    class Reads(Counter):
        def losses(self, batch: Batch) -> dict[str, Tensor]:
            return super().losses(batch) if float(batch.low_NTCHW.sum()) > 0 else {"a": self.weight}

    said: list[str] = []
    module = Reads()
    assert captured(terms_of(module), batch_of(1.0), said.append) is None
    assert module.calls == 0
    (line,) = said
    assert not replays
    assert line.startswith("  note: trains without CUDA graphs, since the step cannot be captured: operation not perm")


PLANTED: dict[str, Callable[[Tensor], Tensor]] = {
    "a value that is read": lambda x: x * float(x.sum()),
    "a list as index": lambda x: x[[1, 0]],
    "a tensor of numbers": lambda x: x * torch.tensor([1.0, 2.0]),
    "a mask": lambda x: x[x > 0.5],
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_no_card_captures_is_not_recorded_either(name: str, replays: list[nn.Module]) -> None:
    module = Counter()
    module.losses = lambda batch: {"a": module.weight * PLANTED[name](batch.low_NTCHW).sum()}  # type: ignore[method-assign]
    assert captured(terms_of(module), batch_of(1.0), lambda line: None) is None


RULED = [
    pytest.param(name, rule, marks=() if rule == "aligned" else pytest.mark.slow) for name in TINY for rule in RULES
]


@pytest.mark.parametrize(("name", "rule"), RULED)
def test_the_step_of_every_network_can_be_replayed(name: str, rule: str, replays: list[nn.Module]) -> None:
    arguments = preset(name).arguments
    network = build(arguments)
    groups = network.channel_layout(rule).groups
    cut = PrunePlan.cutting(rule, network.channel_layout(rule), {group.name: [1] for group in groups if group.size > 1})
    taught = Teacher(network, 1.0 if arguments.branches else 0.0, 0.5)
    module = Finetune(compact(build(arguments), cut), taught, train_flow=True, steps=1, lr=1e-3, shape="constant")
    sides = (8, 8 * arguments.scale)
    example, batch = (Batch(*(torch.rand(1, 2, 3, side, side) for side in sides)) for _ in range(2))
    found = captured(BatchTerms(module, module.losses, contextlib.nullcontext), example)
    assert found is not None
    for term, value in module.losses(batch).items():
        assert torch.equal(found.losses(batch)[term], value)


@pytest.mark.parametrize("labelled", [0, 1])
def test_a_step_on_clips_without_truth_can_be_replayed(labelled: int, replays: list[nn.Module]) -> None:
    module = finetune(Teacher(dense(), 1.0, 0.0, 0.5))
    example, batch = (Batch(torch.rand(2, 3, 3, 8, 8), torch.rand(labelled, 3, 3, 32, 32)) for _ in range(2))
    found = captured(BatchTerms(module, module.losses, contextlib.nullcontext), example)
    assert found is not None
    assert found.fits(batch)
    losses = module.losses(batch)
    assert set(losses) == {"unlabelled", "temporal", *(["reconstruction"] if labelled else [])}
    for term, value in losses.items():
        assert torch.equal(found.losses(batch)[term], value)


def test_the_line_names_what_went_wrong_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(module: nn.Module, example: Batch) -> None:
        try:
            raise RuntimeError("the cause\nand its details")
        finally:
            raise RuntimeError("the end of the capture fails too")

    monkeypatch.setattr(graphs, "graphed", fail)
    said: list[str] = []
    assert captured(terms_of(Counter()), batch_of(1.0), said.append) is None
    assert said == ["  note: trains without CUDA graphs, since the step cannot be captured: the cause"]


@pytest.mark.parametrize(
    ("hardware", "checkpointed", "expected"),
    [
        (ON_A_CARD, False, True),
        (replace(ON_A_CARD, arithmetic=Arithmetic("bf16-mixed")), False, True),
        (replace(ON_A_CARD, arithmetic=Arithmetic("16-mixed")), False, False),
        (replace(ON_A_CARD, arithmetic=Arithmetic("16-mixed"), graphs=True), False, True),
        (replace(ON_A_CARD, graphs=False), False, False),
        (replace(ON_A_CARD, graphs=True), False, True),
        (replace(ON_A_CARD, count=2), False, False),
        (ON_A_CARD, True, False),
        (Hardware(), False, False),
    ],
)
def test_by_itself_a_training_takes_graphs_where_they_are_right(
    hardware: Hardware, checkpointed: bool, expected: bool
) -> None:
    network = dense()
    network.checkpoint_frames = checkpointed
    assert uses_graphs(hardware, network) is expected


def test_graphs_that_cannot_be_are_refused() -> None:
    check_graphs("auto", "cpu")
    check_graphs(True, "cuda")
    with pytest.raises(UserError, match=r"trainer.graphs=true needs a CUDA device.*; use auto or false"):
        check_graphs(True, "cpu")
