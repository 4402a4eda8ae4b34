"""The chaos suite: a product under load while a seeded schedule breaks whatever can break.

``make chaos`` runs it long, ``make test`` runs a short version. See ``storm`` for what happens and
``verdict`` for what must hold in the end.
"""
