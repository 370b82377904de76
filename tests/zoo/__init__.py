"""Small Keras models of every kind that people bring, each with data that it learned something from.

``ZOO["lstm"]()`` builds and trains one in a few seconds; tests take them from the fixture ``zoo``, which keeps them for
the session. The same seed on the same machine gives the same weights.
"""

from tests.zoo import images, sequences, tables
from tests.zoo.example import Example

ZOO = {**images.BUILDERS, **sequences.BUILDERS, **tables.BUILDERS}

__all__ = ["ZOO", "Example"]
