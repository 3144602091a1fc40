"""Kubernetes manifests as text with a tree over it: what is read, what is found there, and what is written.

Pure: text goes in, text comes out.  What never enters: files, streams, exit statuses, a running Triton.
A manifest is never loaded and dumped again: a tree knows where each value stands in the text, and an edit is a
slice of that text, so that every byte that is not ours stays as it was.
"""
