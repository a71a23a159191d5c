"""A job of fixed sizes, for tests whose oracles are reckoned for them: the default network may change."""

from __future__ import annotations

from vsrprune.config.job import Config
from vsrprune.config.model import ModelConfig
from vsrprune.networks.basicvsr.spec import BasicVSRArguments

TINY = BasicVSRArguments(
    channels=16, blocks=3, upsampler_channels=16, flow_levels=3, flow_kernel=3, flow_widths=(16, 16)
)


def tiny_config() -> Config:
    """The default job on basicvsr_tiny, and on patches of 24 pixels."""
    config = Config()
    config.model = ModelConfig("basicvsr_tiny", "basicvsr", TINY)
    config.schedule.patch = 24
    return config
