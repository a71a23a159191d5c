"""RRN (Isobe et al., BMVC 2020)."""
