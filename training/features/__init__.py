"""Frame in, RegionFeatures out: superpixels and what each looks like, means, and how salient it is."""
