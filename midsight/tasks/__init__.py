"""What is made of features: zero-shot classification, similarity, pictures of features, detection."""
