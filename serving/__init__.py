"""Online: frames in, masks out. Never imports torch, never imports training."""
