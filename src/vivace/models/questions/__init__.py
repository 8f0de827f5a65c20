"""Questions that several models answer: one function and one docstring each, hung up in the class body.

Where a model's signature is its own, it has a method of its own that calls the function below it.
"""
