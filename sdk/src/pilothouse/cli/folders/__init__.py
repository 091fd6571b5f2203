"""An installation as a folder: one file for each layer, flag, segment, schema, template, policy."""
