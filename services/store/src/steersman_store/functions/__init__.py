"""SQL functions, replaced together whenever one of the files has changed."""
