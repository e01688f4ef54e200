CREATE EXTENSION kalm;
SELECT kalm_load(:'model') AS model;
CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL,
    words tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED, document bytea);
CREATE INDEX ON notes USING gin (words);
\copy notes (body) FROM examples/demo.txt

-- candidates by words, the best of them by the model, in one statement
WITH candidates AS MATERIALIZED (
    SELECT id, body FROM notes, to_tsquery('english', 'program | photos | photographs') AS q
    WHERE words @@ q ORDER BY ts_rank(words, q) DESC LIMIT 200)
SELECT r.rank, r.id, round(r.score::numeric, 4) AS score, left(n.body, 50) AS body
FROM kalm_rerank('program to retouch photos', ARRAY(SELECT id FROM candidates), ARRAY(SELECT body FROM candidates), 3) AS r
JOIN notes AS n USING (id) ORDER BY r.rank;

-- documents encoded once, by a trigger; a query then costs the query alone
CREATE FUNCTION encode_note() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.document := kalm_encode(NEW.body); RETURN NEW; END';
CREATE TRIGGER encode BEFORE INSERT OR UPDATE OF body ON notes FOR EACH ROW EXECUTE FUNCTION encode_note();
UPDATE notes SET body = body;
SELECT r.rank, r.id, round(r.score::numeric, 4) AS score, octet_length(n.document) AS bytes
FROM (SELECT array_agg(id) AS ids, array_agg(document) AS documents FROM notes) AS all_notes,
    kalm_rerank('play chess against the computer', ids, documents, 2) AS r
JOIN notes AS n USING (id) ORDER BY r.rank;
