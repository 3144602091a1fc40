"""The probe's image, built from the Dockerfile as it stands, where there is no registry.

The base is a Debian with its own Python, as the default base is one inside; wheels come by pip on this machine with
whatever settings it needs there, so that the build itself needs no network.  Everything is kept in ``.cache/images``
under the digest of what it was made of.
"""
