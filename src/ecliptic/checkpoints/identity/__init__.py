"""What a checkpoint is: sizes, heads, activation, specs, and whether the weights fit them."""
