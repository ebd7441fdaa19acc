"""Virtio device ids."""

NET, BLOCK, BALLOON, FS = 1, 2, 5, 26
