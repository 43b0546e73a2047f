"""What a diffusion model needs from CLIP: conditioning tensors from prompts of any dialect."""
