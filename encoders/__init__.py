"""Pretrained image and text towers behind one protocol, with one bit-exact encode path."""
