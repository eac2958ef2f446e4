"""Serve: an edge model over HTTP, on ONNX Runtime alone."""
