"""Stage 7: an int8 network of the fine-tuned one, for the engines that people deploy with."""
