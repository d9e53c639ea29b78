"""Torch modules; one paper figure or box per file."""
