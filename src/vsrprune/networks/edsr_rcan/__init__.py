"""EDSR and RCAN: networks of single images."""
