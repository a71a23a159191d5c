"""Quality (PSNR, SSIM), cost (parameters, MACs) and latency."""
