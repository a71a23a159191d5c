"""The best network at a budget of MACs, by what was measured so far (docs/scores.md): no published method.

Units are ranked over all layers by what the loss loses with them (Taylor) for each MAC that they cost, and cut in one
shot.
"""

from vsrprune.methods.method import Method

METHOD = Method("best")
