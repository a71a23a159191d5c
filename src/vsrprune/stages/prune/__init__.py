"""Stage 4: the compact network, proven equal to the masked one."""
