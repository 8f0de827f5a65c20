"""Answers to the questions users ask, as functions of a module and minibatches."""
