"""Arrays <-> Lance tables."""
