"""Why an adapter answers what it answers: maps of the evidence for one label, and images with such a map over them.

>>> from PIL import Image
>>> from lensmount_adapters import load_backbone, preprocess
>>> from lensmount_adapters.explain.explainer import Explainer
>>> from lensmount_adapters.explain.overlay import overlay
>>> backbone = load_backbone("resnet10t", "random:0")
>>> adapter, = draw_adapters(backbone, 1)                          # in a server: `admit(file, backbone)`
>>> image = Image.new("RGB", (64, 64))
>>> why = Explainer(backbone).explain(adapter, preprocess(image, adapter.manifest.preprocessing), "cam")
>>> png = overlay(image, why.values, adapter.manifest.preprocessing)

A method is a class behind the Protocol of method.py, in a file of its own.

| method | file | values | for |
|---|---|---|---|
| `cam` | cam.py | the share of each cell of the last map in the logit | networks that average their last map |
| `layercam` | layercam.py | the same of the last map with a finer grid, by one backward pass | the same networks |
| `occlusion` | occlusion.py | how far the score falls when a part of the image is covered | every network for labels |

network.py is the backbone with an adapter's weights, as a function: the resident modules get no hook and no tensor is
written.
"""
