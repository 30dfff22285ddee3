"""The steps that bring a model's files to where its pods are: Jobs and claims."""
