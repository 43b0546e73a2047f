"""Which family is this, by the name of a model or the folder of a pipeline?"""
