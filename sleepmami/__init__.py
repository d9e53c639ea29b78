"""SleepMaMi: from whole nights of polysomnography to embeddings."""

__version__ = "0.1.0"
