"""Kubernetes manifests: the real kustomize renders them, and the real schemas judge what comes out."""
