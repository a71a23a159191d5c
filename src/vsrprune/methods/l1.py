"""Filter pruning by the L1 norm (Li et al., ICLR 2017): rank filters by mean |w|, cut in one shot, fine-tune."""

from vsrprune.methods.method import Method

METHOD = Method("l1")
