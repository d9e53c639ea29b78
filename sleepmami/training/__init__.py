"""One loop for every stage."""
