"""Errors of memory, cards and drivers that a user can mend: their messages, what they mean, and what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

TRAINING = ("flow", "pretrain", "align", "score", "sparsify", "finetune")
QUALITY = ("reference", "prune", "evaluate", "quantise")
TIMES = ("timing", "measure")
FEWER_JOBS = "fewer launcher.jobs at a time"
LESS_TO_TRAIN = (
    "trainer.checkpoint_frames=true, which computes frames again instead of keeping them; then a smaller"
    f" schedule.batch, schedule.patch or schedule.frames, or {FEWER_JOBS}"
)

MORE_TIME = (
    "run it again, it goes on from its checkpoint; on a batch system with a longer launcher.options.walltime, or in"
    " another launcher.options.queue"
)


def less_memory(stage: str) -> str:
    """What to change where a stage found no memory; a stage of a round may have its number: `sparsify_1`."""
    kind = stage.partition("_")[0]
    if kind in TRAINING:
        return LESS_TO_TRAIN
    if kind in QUALITY:
        return f"data.max_frames=30 or less, which shortens clips, a smaller evaluate.temporal_pairs, or {FEWER_JOBS}"
    if kind in TIMES:
        return f"a smaller evaluate.latency_size or evaluate.latency_frames, or {FEWER_JOBS}"
    return FEWER_JOBS


@dataclass(frozen=True)
class Known:
    """A kind of error. words: any of them in its message, in small letters. advice: by the stage's name."""

    words: tuple[str, ...]
    cause: str
    advice: Callable[[str], str]
    is_memory: bool = False


def _always(advice: str) -> Callable[[str], str]:
    return lambda stage: advice


NO_MEMORY = "out of memory"
INSTALL = "docs/gpu.md says which PyTorch goes with which driver and card; meanwhile trainer=cpu or --device cpu"
SHARED = "trainer.workers=0, or more shared memory (docker run --shm-size=8g, or a larger /dev/shm)"
# In this order: the message of one kind may hold words of a later one.
KNOWN = (
    Known(
        ("uncorrectable", "ecc error"),
        "the GPU's memory is faulty (ECC)",
        _always("run it again, it goes on from its checkpoint; if it comes back, reset the GPU or use another one"),
    ),
    Known(
        ("out of shared memory", "unable to open shared memory", "unable to write to file </torch", "bus error"),
        "processes that load data found no shared memory",
        _always(SHARED),
    ),
    Known(
        # The words of CUDA, PyTorch, cuDNN, cuBLAS, C++ and oneDNN.
        (
            NO_MEMORY,
            "can't allocate memory",
            "cannot allocate memory",
            "cudnn_status_alloc_failed",
            "cublas_status_alloc_failed",
            "bad_alloc",
            "could not create a primitive",
        ),
        NO_MEMORY,
        less_memory,
        is_memory=True,
    ),
    Known(
        ("unable to find an engine",),
        "cuDNN found no way to compute a convolution, usually for want of GPU memory",
        lambda stage: f"{less_memory(stage)}; if memory is free, {INSTALL}",
        is_memory=True,
    ),
    Known(
        ("killed by signal: killed",),
        "a process that loads data was killed, usually for want of memory",
        _always(f"fewer trainer.workers, or {FEWER_JOBS}"),
    ),
    Known(
        ("dataloader worker (pid",),
        "a process that loads data died",
        _always("trainer.workers=0, which shows its error or mends it"),
    ),
    Known(
        ("you requested gpu", "invalid device ordinal"),
        "more GPUs are asked for than this process sees",
        _always("a smaller trainer.devices, or more names in CUDA_VISIBLE_DEVICES"),
    ),
    Known(
        ("driver on your system is too old", "driver version is insufficient"),
        "the NVIDIA driver is too old for this PyTorch",
        _always(f"a newer driver, or a PyTorch for an older CUDA: {INSTALL}"),
    ),
    Known(
        ("no kernel image is available",),
        "this PyTorch has no code for this GPU's generation",
        _always(INSTALL),
    ),
    Known(
        ("found no nvidia driver", "no cuda gpus are available", "not compiled with cuda", "unknown error - this may"),
        "PyTorch cannot use a GPU here",
        _always(INSTALL),
    ),
    Known(
        ("busy or unavailable",),
        "another process holds the GPU for itself",
        _always("another GPU by CUDA_VISIBLE_DEVICES, or wait; nvidia-smi shows who uses it"),
    ),
    Known(
        ("nccl",),
        "the GPUs of a data-parallel training lost touch (NCCL)",
        _always("run it again with NCCL_DEBUG=WARN, which names the reason, or with trainer.devices=1"),
    ),
    Known(
        ("device-side assert", "illegal memory access", "unspecified launch failure"),
        "a computation on the GPU failed",
        _always("run it again with CUDA_LAUNCH_BLOCKING=1: failure.json then says where; it may be a defect"),
    ),
)


def known_cause(error: BaseException) -> Known | None:
    """The kind of an error, by its message and those of the errors that it came from; None for one of no such kind."""
    if isinstance(error, MemoryError):
        return next(kind for kind in KNOWN if kind.cause == NO_MEMORY)
    text = "\n".join(str(each) for each in _chain(error)).lower()
    return next((kind for kind in KNOWN if any(words in text for words in kind.words)), None)


def first_line(error: BaseException) -> str:
    """What an error says, without the page that CUDA's go on for; its kind if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised from or while handling."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
