"""Adapters that leave: one small class per format, each with the same logits as here, or a refusal by name."""
