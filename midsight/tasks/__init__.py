"""What is made of features: zero-shot, similarity, detection, tracking, segmentation, depth, pictures of them."""
