"""What is worth searching, and the sweeps that search it with Ray Tune."""
