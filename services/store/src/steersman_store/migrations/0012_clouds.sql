-- Models in the clouds of Amazon and Google.

ALTER TABLE providers
    ADD COLUMN region text,                -- where a cloud serves the models
    ADD COLUMN project text;               -- whose they are, on Vertex AI
