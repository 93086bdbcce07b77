"""From a publisher's files to a prepared dataset, one file a dataset."""
