"""The trainer: a command that turns a run folder into an adapter file, and the image engine behind it.

Importing this package, `trainer.contract`, `trainer.pictures` or `trainer.formats` never imports torch.
"""

__version__ = "0.1.0"
