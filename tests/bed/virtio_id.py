"""Virtio device ids."""

NET, BLOCK, ENTROPY, BALLOON, FS = 1, 2, 4, 5, 26
