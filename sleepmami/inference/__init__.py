"""From a preprocessed night to embeddings, and from embeddings to files."""
