"""The traced backbone: cut in two, folded, and as a function of its weights.

segments.py cuts it into a trunk, which all adapters share, and the branch after it. fold.py folds BatchNorms for
training. For serving, plain_calls.py and functional.py rewrite each layer so that its weights are inputs, and sites.py
lists the layers that a batch of several adapters may change. One layer of a branch:

    before: x --> conv1 (W, b) --> bn1 --> act1 -->
    after:  x, w0, w1 --> F.conv2d(x, weight=w0, bias=w1) --> act1 -->

`w0` and `w1` are the weight and bias of `conv1` with `bn1` folded in. With an adapter, `w0` is
`s * (W + scale * B @ A)`, where `s` is the gain of `bn1`. functional.py shows the same layer with formulas and shapes.
"""
