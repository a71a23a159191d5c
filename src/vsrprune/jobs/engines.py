"""Which engines a job's networks are timed in, beside PyTorch."""

from __future__ import annotations

from typing import Any

from vsrprune.config.job import Config
from vsrprune.config.quantise import INT8
from vsrprune.engines.extras import check_engine, installed
from vsrprune.errors import UserError
from vsrprune.host.devices import Place
from vsrprune.results.measured import AUTO, TORCH
from vsrprune.selection.budget import REALTIME

OF_INT8 = "onnxruntime"  # what makes int8 networks, and runs them


def engines_of(config: Config, arguments: Any, place: Place) -> list[str]:
    """Their names. Raises UserError for one that is not installed, or cannot run the job's networks."""
    asked, makes_int8 = config.evaluate.engine, config.quantise.name == INT8
    if makes_int8:
        check_engine(OF_INT8, "quantise=int8: ")
    if asked == TORCH and makes_int8:
        raise UserError(
            "evaluate.engine=torch does not go with quantise=int8, whose networks run in onnxruntime or openvino; take"
            " evaluate.engine out of the command"
        )
    if asked not in (AUTO, TORCH):
        check_engine(asked, f"evaluate.engine={asked}: ")
        if not arguments.runs_in_engines:
            raise UserError(
                f"evaluate.engine={asked} needs a network whose exported graphs serve clips of any length, and"
                f" model={config.model.name} has none; use evaluate.engine=torch"
            )
        return [asked]
    # The engines run on the CPU: where a job computes on a GPU they are no answer to how fast that is.
    if asked == AUTO and config.target == REALTIME and arguments.runs_in_engines and not place.cards:
        return installed()
    return [OF_INT8] if makes_int8 else []
