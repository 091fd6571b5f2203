"""The change feed over HTTP: the log, the stream and the outcomes of writes."""
