"""The paper's tables on any data set: what each part of the method is worth to pseudo labels and to networks."""
