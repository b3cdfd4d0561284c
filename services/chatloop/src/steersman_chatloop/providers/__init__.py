"""Model providers: each adapter is a pure translation both ways and a thin stream around an SDK."""
