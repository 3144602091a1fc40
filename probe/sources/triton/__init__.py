"""Triton over gRPC, with HTTP as the cross-check: asked serially, seldom, and with a deadline on each call.

All non-inference gRPC calls of a Triton share one thread with every other client's (server,
``grpc_server.cc``): a watcher that asks much, or in parallel, is itself the load it warns of.
"""
