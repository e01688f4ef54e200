#!/bin/sh
# demo.sh BUILD - what README.md shows: candidates by words (FTS5), ranked by the model, in one SQL statement.
build=${1:-build}
sqlite3 << END
.load $build/kalm
.headers on
.mode column
SELECT kalm_load('$build/tiny.kalm') AS model;
CREATE VIRTUAL TABLE notes USING fts5(text);
INSERT INTO notes SELECT value FROM json_each('["' || replace(rtrim(CAST(readfile('examples/demo.txt') AS TEXT), char(10)), char(10), '","') || '"]');
SELECT rank, id, round(score, 4) AS score, round(margin, 3) AS margin
FROM kalm_rerank('program to retouch photos', 'SELECT rowid, text FROM notes WHERE notes MATCH ''program OR photos OR photographs'' ORDER BY bm25(notes)', 3);
CREATE TABLE kept AS SELECT rowid AS id, kalm_encode(text) AS document FROM notes;
SELECT id, length(document) AS bytes, round(kalm_score('play chess against the computer', document), 4) AS score
FROM kept ORDER BY score DESC LIMIT 2;
END
