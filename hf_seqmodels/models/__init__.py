"""The code that travels with a checkpoint: it imports only torch, transformers and its siblings."""
