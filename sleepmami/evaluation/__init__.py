"""What embeddings are worth: probes on frozen vectors, their figures and intervals. No torch."""
