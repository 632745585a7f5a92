"""How far answers can be relied on: scores that are as often right as they say, sets of labels, and when to abstain.

Everything here is a function of arrays. Training and evaluation read the images, and a server asks `judge`.
"""
