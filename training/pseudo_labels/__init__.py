"""RegionFeatures and one pixel per class in, pseudo labels out: the paper's equations, each in the file of its name."""
