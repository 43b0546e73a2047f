"""How far is an image from what is wanted? Losses of images, smaller is better."""
