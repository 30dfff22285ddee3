"""What a downloaded model is: how to turn text into tokens and token vectors into one vector, its graph's
facts, and its fingerprint. Nothing here runs a graph.
"""
