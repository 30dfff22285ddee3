"""How a model's files come to where its pods are: pure decisions, and what is told of them."""
