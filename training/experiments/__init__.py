"""Experiments in MLflow: what is said of a run, kept while the server is away, compared, and run again."""
