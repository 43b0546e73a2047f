"""CLIP guides a pipeline of diffusers: its denoiser answers with guided predictions for a while."""
