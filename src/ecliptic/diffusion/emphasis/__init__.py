"""What the weights of a prompt do to its vectors, and how compel blends prompts."""
