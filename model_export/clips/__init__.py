"""Recipes that sort clips into classes, as tutorials and papers do: one label a clip, softmax over all.

In the order of the work: recipe -> pictures -> splits -> networks -> fitting -> judging -> page -> exporting.
"""
