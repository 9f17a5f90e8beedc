"""The control plane: the one writer, and the gRPC server. Native threads only; reaches the hub through `plane.py`."""
