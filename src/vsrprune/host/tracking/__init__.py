"""Mirrors of a job: Weights & Biases, TensorBoard, CSV. The job's files are the truth; no mirror fails or stalls it."""
