"""A control: the dense network, trained on for as many steps as a pruned one. Nothing is cut, whatever is asked.

What a pruned network loses is its difference to this one: the dense network that it was cut from has had fewer steps.
schedule.budget makes the steps equal for all methods.
"""

from vsrprune.methods.method import Method

METHOD = Method("dense", plan="whole")
