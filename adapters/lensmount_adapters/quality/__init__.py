"""Whether the labelled images tell the truth: wrong labels, outliers, look-alikes, leaks and shortcuts."""
