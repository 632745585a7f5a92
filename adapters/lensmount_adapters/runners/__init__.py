"""A batch in which each image names its adapter, to scores: hot, merged and mixed."""
