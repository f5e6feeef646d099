"""Photos to train on: folders, views, label maps, batches."""

from naf.training.photos.batch import Batch, TicketDataset, collate
from naf.training.photos.folder import DataError, PhotoFolder, Sample

__all__ = ["Batch", "DataError", "PhotoFolder", "Sample", "TicketDataset", "collate"]
