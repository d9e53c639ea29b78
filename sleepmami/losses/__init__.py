"""Functions of tensors; one equation group per file."""
