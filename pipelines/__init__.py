"""Ray jobs: each parses a config, wires library pieces together and runs them."""
