"""A control: the dense network, trained on. Nothing is cut, whatever is asked.

What a pruned network loses is its difference to this one: the dense network that it was cut from has had fewer steps.
schedule.budget makes the steps equal for all methods; without it this one has those of fine-tuning alone.
"""

from vsrprune.methods.method import Method

METHOD = Method("dense", plan="whole")
