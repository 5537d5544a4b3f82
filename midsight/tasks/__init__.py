"""What is made of features: zero-shot classification, similarity, tracking, segmentation, depth, pictures of them."""
