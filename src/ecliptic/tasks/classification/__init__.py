"""`Classifier`: labels for images, with probabilities that mean what they say."""
