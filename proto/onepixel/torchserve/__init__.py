"""The part of TorchServe's own gRPC contract that our client speaks."""
