"""A control: units picked at random, cut in one shot, fine-tuned. Any ranking must beat it."""

from vsrprune.methods.method import Method

METHOD = Method("random")
