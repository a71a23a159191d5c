"""Latency and memory of the dense and the compact network."""
