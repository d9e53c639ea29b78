"""What embeddings are worth: probes on frozen vectors, their figures and intervals. No torch.

probe.py is the way in; docs/evaluation.md ("Where the code is") goes through the files in order.
"""
