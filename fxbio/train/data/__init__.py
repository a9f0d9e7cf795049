"""Data sets, how they are checked and prepared, and the loaders that read them."""

from fxbio.train.data.data_kind import DataConfig, DataSource
from fxbio.train.data.loader import WatchedLoader, make_loader
from fxbio.train.data.open import open_data, trial_data
from fxbio.train.data.sampler import EpochSampler, EvalSampler, Pick

__all__ = [
    "DataConfig",
    "DataSource",
    "EpochSampler",
    "EvalSampler",
    "Pick",
    "WatchedLoader",
    "make_loader",
    "open_data",
    "trial_data",
]
