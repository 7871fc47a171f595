"""A live view in the browser: `sources` give frames, `feed` has them segmented, `web` shows the latest pair."""
