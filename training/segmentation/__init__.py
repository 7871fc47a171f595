"""Labels in, a trained DeepLab out: the networks, the trainer, checkpoints and prediction."""
