"""What a job keeps of every channel group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vsrprune.channels.layout import RULES, ChannelLayout
from vsrprune.errors import UserError


@dataclass(frozen=True)
class PrunePlan:
    """What a job keeps of a network: the size of each group, and its kept channels, ascending.

    Raises ValueError for an unknown rule, an empty group, or channels unsorted, repeated or out of range.
    """

    rule: str
    sizes: Mapping[str, int]
    kept: Mapping[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}; got {self.rule!r}")
        if set(self.sizes) != set(self.kept):
            raise ValueError(f"sizes and kept name different groups: {sorted(set(self.sizes) ^ set(self.kept))}")
        for name, channels in self.kept.items():
            if not channels:  # a convolution of no channels is none, and its layer's output would vanish
                raise ValueError(f"{name}: at least one channel must be kept")
            # Ascending, so that equal plans are equal values, and surgery keeps the order of channels.
            if list(channels) != sorted(set(channels)):
                raise ValueError(f"{name}: kept channels must ascend without repeats, got {channels}")
            if channels[0] < 0 or channels[-1] >= self.sizes[name]:
                raise ValueError(f"{name}: kept channels must lie in 0..{self.sizes[name] - 1}, got {channels}")

    @classmethod
    def keep_all(cls, rule: str, layout: ChannelLayout) -> PrunePlan:
        """The plan that cuts nothing."""
        return cls.cutting(rule, layout, {})

    @classmethod
    def cutting(cls, rule: str, layout: ChannelLayout, cut: Mapping[str, Iterable[int]]) -> PrunePlan:
        """The plan that cuts the channels named in `cut` (by group) and keeps the others."""
        # A name or channel that is not there is a mistake of the caller; ignored, it would leave a unit uncut.
        gone = {name: set(channels) for name, channels in cut.items()}
        sizes = {group.name: group.size for group in layout.groups}
        for name, channels in gone.items():
            if not channels <= set(range(sizes.get(name, 0))):
                raise ValueError(f"{name}: channels {sorted(channels)} are not among this layout's")
        return cls(
            rule=rule,
            sizes={group.name: group.size for group in layout.groups},
            kept={
                group.name: tuple(u for u in range(group.size) if u not in gone.get(group.name, ()))
                for group in layout.groups
            },
        )

    @property
    def kept_counts(self) -> dict[str, int]:
        """Number of kept channels by group."""
        return {name: len(channels) for name, channels in self.kept.items()}

    @property
    def units_cut(self) -> int:
        """Number of units that are cut."""
        return sum(self.sizes.values()) - sum(self.kept_counts.values())

    def cut(self, group: str) -> tuple[int, ...]:
        """The channels of `group` that are cut, ascending."""
        kept = set(self.kept[group])
        return tuple(u for u in range(self.sizes[group]) if u not in kept)

    def check_fits(self, layout: ChannelLayout) -> None:
        """Raise UserError naming the first group in which plan and layout differ."""
        expected = {group.name: group.size for group in layout.groups}
        for name in sorted(set(expected) | set(self.sizes)):
            if expected.get(name) != self.sizes.get(name):
                raise UserError(
                    f"the plan does not fit this network: group {name} has {self.sizes.get(name, 'no')} channels in"
                    f" the plan and {expected.get(name, 'no')} in the network"
                )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file; `from_json` reads them back."""
        return {
            "rule": self.rule,
            "groups": {name: {"size": size, "kept": list(self.kept[name])} for name, size in self.sizes.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PrunePlan:
        """The plan that `to_json` wrote."""
        groups = data["groups"]
        return cls(
            rule=data["rule"],
            sizes={name: int(group["size"]) for name, group in groups.items()},
            kept={name: tuple(map(int, group["kept"])) for name, group in groups.items()},
        )
