"""Thin LightningModules around the pure functions, one per training stage."""
