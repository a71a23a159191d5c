"""Search of per-layer pruning ratios: a space of ratios, trials that meet their budget, studies that many share."""
