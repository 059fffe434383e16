"""From RNN to ViT on the same tasks, measured: every claim of the story, with what the machine at hand says of it."""
