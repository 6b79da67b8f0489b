"""Labelled volumes to train on: specimens, states and microscopes drawn at random, scanned and reconstructed.

`ranges` says what varies, `draws` draws specimens and scans, `case` walks the road for one specimen, `layouts` writes
its cases for a program, and `data_set` makes the whole set, with its manifest, its split and its data card.
"""
