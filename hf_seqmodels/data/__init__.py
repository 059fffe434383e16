"""Text and images to model inputs; all randomness is a pure function of (seed, epoch, shard, index)."""
