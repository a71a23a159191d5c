"""The same architecture, narrower, trained from scratch at equal cost: what pruning has to beat to be worth it.

Trunk and upsampler have a width of their own, as near to one share of the dense widths as the budget allows. It trains
for as many steps as a pruned network has in all, pretraining included, unless schedule.scratch_steps says otherwise.
"""

from vsrprune.methods.method import Method

# rule=aligned: only there does a network with fewer channels everywhere have the shape of the architecture itself.
METHOD = Method(
    "lite",
    plan="narrow",
    start="scratch",
    requires={"rule": ("aligned",), "target": ("macs", "params"), "round_to": (1,), "scope": ("local",)},
)
