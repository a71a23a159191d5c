"""The same architecture, narrower, trained from scratch at equal cost: what pruning has to beat to be worth it.

Trunk and upsampler have a width of their own, as near to one share of the dense widths as the budget allows. It trains
for as many steps as a pruned network has in all, pretraining included: with schedule.budget exactly so; else
schedule.scratch_steps may say otherwise.
"""

from vsrprune.methods.method import Method

# rule=aligned: only there does a network with fewer channels everywhere have the shape of the architecture itself.
METHOD = Method(
    "lite",
    plan="narrow",
    start="scratch",
    requires={"rule": ("aligned",), "target": ("macs", "params"), "round_to": (1,), "scope": ("local",)},
)
