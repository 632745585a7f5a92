"""Labelled images: read, checked, packed and split."""
