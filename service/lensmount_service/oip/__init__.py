"""The Open Inference Protocol, version 2: every adapter is a model, over REST under /v2 and over gRPC."""
