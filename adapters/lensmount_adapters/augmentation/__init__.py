"""How training images and volumes are varied: presets and their computation on whole batches."""
