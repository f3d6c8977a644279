-- Removes the publication where it makes writing to the provider tables fail.

DROP PUBLICATION IF EXISTS provwatch;
