"""Files of `torch.save`: zip archives whose pickles are read without running anything in them."""
