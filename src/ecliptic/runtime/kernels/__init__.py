"""Forms of a transformer block for inference, each with one kind of kernel, and their choice."""
