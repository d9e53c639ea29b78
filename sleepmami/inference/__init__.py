"""One way from a night to a vector."""
