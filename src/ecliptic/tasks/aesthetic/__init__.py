"""How much do people like this picture? Heads that score vectors of images, released or own."""
