"""The operator: watches EmbeddingModel resources and brings the cluster to what they ask for."""
