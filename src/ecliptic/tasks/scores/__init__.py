"""How well do images fit their captions, and which of two generators fits better?"""
