"""Networks, each of which states which of its channels live and die together."""
